//! Services, their endpoints, Ingresses and NetworkPolicies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    NONE, UNKNOWN, UNSET, age, age_column, at_most_three, column, label_selector, labels, list, number, printer, text,
    text_or, wide,
};
use crate::meta;
use crate::table::Printer;

pub fn service() -> Printer {
    let columns = vec![
        column("Type", "string", "How the Service is exposed."),
        column("Cluster-IP", "string", "The IP address of the service."),
        column("External-IP", "string", "Addresses from outside the cluster that reach the service."),
        column("Port(s)", "string", "The list of ports that are exposed by this service."),
        age_column(),
        wide("Selector", "string", "Route service traffic to pods with labels matching this selector."),
    ];
    printer(columns, |service, now| {
        vec![
            meta::name(service).into(),
            text(service, "/spec/type").into(),
            text_or(service, "/spec/clusterIPs/0", text_or(service, "/spec/clusterIP", NONE)).into(),
            external_ip(service).into(),
            service_ports(service).into(),
            age(service, now),
            labels(service, "/spec/selector").into(),
        ]
    })
}

pub fn ip_address() -> Printer {
    printer(vec![column("ParentRef", "string", "The object that has the address.")], |address, _now| {
        let part = |field: &str| text(address, &format!("/spec/parentRef/{field}")).to_owned();
        let resource = match (part("resource"), part("group")) {
            (resource, group) if group.is_empty() => resource,
            (resource, group) => format!("{resource}.{group}"),
        };
        let parts = [resource, part("namespace"), part("name")];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        vec![meta::name(address).into(), parts.join("/").into()]
    })
}

pub fn service_cidr() -> Printer {
    let columns = vec![column("CIDRs", "string", "The ranges, one of each family at most."), age_column()];
    printer(columns, |range, now| {
        let ranges: Vec<&str> = list(range, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
        vec![meta::name(range).into(), ranges.join(",").into(), age(range, now)]
    })
}

fn external_ip(service: &Value) -> String {
    let own = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    match text(service, "/spec/type") {
        "ClusterIP" | "NodePort" if own.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => own,
        "LoadBalancer" => match (balancers(service), own.as_str()) {
            (balancers, "") if balancers.is_empty() => "<pending>".to_owned(),
            (balancers, "") => balancers,
            (balancers, own) if balancers.is_empty() => own.to_owned(),
            (balancers, own) => format!("{balancers},{own}"),
        },
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

/// Addresses of the load balancer, each once, sorted.
fn balancers(object: &Value) -> String {
    let points = list(object, "/status/loadBalancer/ingress").iter();
    let addresses: BTreeSet<&str> = points.map(|p| text_or(p, "/ip", text(p, "/hostname"))).collect();
    addresses.into_iter().filter(|a| !a.is_empty()).collect::<Vec<_>>().join(",")
}

fn service_ports(service: &Value) -> String {
    let port = |port: &Value| {
        let (number_, protocol) = (number(port, "/port"), text(port, "/protocol"));
        match number(port, "/nodePort") {
            0 => format!("{number_}/{protocol}"),
            node_port => format!("{number_}:{node_port}/{protocol}"),
        }
    };
    let ports: Vec<String> = list(service, "/spec/ports").iter().map(port).collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}

pub fn endpoints() -> Printer {
    let columns = vec![column("Endpoints", "string", "The addresses and ports behind the service."), age_column()];
    printer(columns, |object, now| vec![meta::name(object).into(), subsets(object).into(), age(object, now)])
}

fn subsets(endpoints: &Value) -> String {
    let subsets = list(endpoints, "/subsets");
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut found = Vec::new();
    for subset in subsets {
        let addresses = || list(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            found.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            found.extend(addresses().map(|ip| host_port(ip, number(port, "/port"))));
        }
    }
    at_most_three(&found)
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub fn endpoint_slice() -> Printer {
    let columns = vec![
        column("AddressType", "string", "The type of address carried by this EndpointSlice."),
        column("Ports", "string", "The network ports exposed by each endpoint in this slice."),
        column("Endpoints", "string", "The addresses of the endpoints in this slice."),
        age_column(),
    ];
    printer(columns, |slice, now| {
        let ports = list(slice, "/ports").iter().map(|port| match number(port, "/port") {
            0 => "*".to_owned(),
            port => port.to_string(),
        });
        let endpoints = list(slice, "/endpoints").iter().flat_map(|e| list(e, "/addresses"));
        let addresses = endpoints.filter_map(|a| a.as_str().map(str::to_owned));
        vec![
            meta::name(slice).into(),
            text(slice, "/addressType").into(),
            unset_if_empty(ports.collect()).into(),
            unset_if_empty(addresses.collect()).into(),
            age(slice, now),
        ]
    })
}

fn unset_if_empty(items: Vec<String>) -> String {
    if items.is_empty() { UNSET.to_owned() } else { at_most_three(&items) }
}

pub fn ingress() -> Printer {
    let columns = vec![
        column("Class", "string", "The name of the IngressClass resource that should be used."),
        column("Hosts", "string", "Hosts that incoming requests are matched against before the ingress rule"),
        column("Address", "string", "Address is a list containing ingress points for the load-balancer"),
        column("Ports", "string", "Ports of TLS configurations that open"),
        age_column(),
    ];
    printer(columns, |ingress, now| {
        let hosts: Vec<String> = list(ingress, "/spec/rules").iter().map(|r| text(r, "/host").to_owned()).collect();
        let hosts: Vec<String> = hosts.into_iter().filter(|host| !host.is_empty()).collect();
        let ports = if list(ingress, "/spec/tls").is_empty() { "80" } else { "80, 443" };
        vec![
            meta::name(ingress).into(),
            text_or(ingress, "/spec/ingressClassName", NONE).into(),
            if hosts.is_empty() { "*".to_owned() } else { at_most_three(&hosts) }.into(),
            balancers(ingress).into(),
            ports.into(),
            age(ingress, now),
        ]
    })
}

pub fn ingress_class() -> Printer {
    let columns = vec![
        column("Controller", "string", "Controller that is responsible for handling this class"),
        column("Parameters", "string", "A reference to a resource with additional parameters"),
        age_column(),
    ];
    printer(columns, |class, now| {
        let parameters = match class.pointer("/spec/parameters") {
            Some(parameters) => {
                let group = text(parameters, "/apiGroup");
                let dot = if group.is_empty() { "" } else { "." };
                format!("{}{dot}{group}/{}", text(parameters, "/kind"), text(parameters, "/name"))
            }
            None => NONE.to_owned(),
        };
        vec![meta::name(class).into(), text(class, "/spec/controller").into(), parameters.into(), age(class, now)]
    })
}

pub fn network_policy() -> Printer {
    let columns = vec![column("Pod-Selector", "string", "The pods to which this policy applies."), age_column()];
    printer(columns, |policy, now| {
        vec![meta::name(policy).into(), label_selector(policy, "/spec/podSelector").into(), age(policy, now)]
    })
}
