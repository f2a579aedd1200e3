//! The variables that tell a container about services, as Docker links once did.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

fn prefix(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn has_address(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn url_host(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// Services of the pod's namespace (when it wants them) and always the API server's.
pub fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for service in services {
        let ns = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let master = ns == "default" && name == "kubernetes";
        if !(master || (links && ns == namespace)) {
            continue;
        }
        // A service of that name in the pod's own namespace hides the API server's.
        let hidden = master && ns != namespace && env.contains_key("KUBERNETES_SERVICE_HOST");
        if let Some(ip) = has_address(service).filter(|_| !hidden) {
            one(service, name, ip, &mut env);
        }
    }
    env
}

fn one(service: &Service, name: &str, ip: &str, env: &mut BTreeMap<String, String>) {
    let prefix = prefix(name);
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    env.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    for (index, port) in ports.iter().enumerate() {
        if index == 0 {
            env.insert(format!("{prefix}_SERVICE_PORT"), port.port.to_string());
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            env.insert(format!("{prefix}_SERVICE_PORT_{}", self::prefix(port_name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{}:{}", protocol.to_lowercase(), url_host(ip), port.port);
        if index == 0 {
            env.insert(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!("{prefix}_PORT_{}_{protocol}", port.port);
        env.insert(format!("{link}_PROTO"), protocol.to_lowercase());
        env.insert(format!("{link}_PORT"), port.port.to_string());
        env.insert(format!("{link}_ADDR"), ip.to_owned());
        env.insert(link, url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(ns: &str, name: &str, ip: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": ns},
            "spec": {"clusterIP": ip, "ports": [{"name": "web-ui", "port": 80, "protocol": "TCP"}]}}))
        .expect("a service")
    }

    #[test]
    fn names_and_scope() {
        let all = [
            service("default", "kubernetes", "10.96.0.1"),
            service("ns", "my-svc", "10.96.0.2"),
            service("ns", "headless", "None"),
            service("other", "x", "10.96.0.3"),
        ];
        let env = variables(all.iter(), "ns", true);
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(env.get(name).map(String::as_str), expected, "{name}");
        };
        check("KUBERNETES_SERVICE_HOST", Some("10.96.0.1"));
        check("MY_SVC_SERVICE_PORT", Some("80"));
        check("MY_SVC_SERVICE_PORT_WEB_UI", Some("80"));
        check("MY_SVC_PORT_80_TCP", Some("tcp://10.96.0.2:80"));
        check("MY_SVC_PORT_80_TCP_ADDR", Some("10.96.0.2"));
        check("HEADLESS_SERVICE_HOST", None);
        check("X_SERVICE_HOST", None);
        let without = variables(all.iter(), "ns", false);
        assert!(without.contains_key("KUBERNETES_SERVICE_HOST") && !without.contains_key("MY_SVC_SERVICE_HOST"));
    }
}
