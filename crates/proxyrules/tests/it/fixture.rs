//! Objects for the tests, in the JSON people write, and a model fed with them.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proxyrules::{Config, Family, LocalDetector, Model, Observed};
use serde_json::{Value, json};

pub const NODE: &str = "node-a";
pub const NODE_IP: &str = "192.168.0.2";

pub fn config() -> Config {
    let mut config = Config::new(Family::V4, NODE);
    config.local_detector = LocalDetector::Cidr("10.0.0.0/8".parse().expect("a network"));
    config.node_ips = [NODE_IP.parse().expect("an address")].into();
    config
}

/// A Service of one TCP port 80 named p80, with `spec` merged over it.
pub fn service(namespace: &str, name: &str, cluster_ip: &str, spec: Value) -> Service {
    let mut object = json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": cluster_ip, "ports": [{"name": "p80", "port": 80, "protocol": "TCP"}]},
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).expect("a Service")
}

pub fn with_ingress(mut service: Service, ip: &str) -> Service {
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": ip}]}})).expect("a status");
    service
}

/// A slice for port p80 to 80; each endpoint is `(address, node, more)`.
pub fn slice(namespace: &str, service: &str, endpoints: &[(&str, &str, Value)]) -> EndpointSlice {
    slice_of("p80", "TCP", namespace, service, endpoints)
}

pub fn slice_of(
    port: &str,
    protocol: &str,
    namespace: &str,
    service: &str,
    endpoints: &[(&str, &str, Value)],
) -> EndpointSlice {
    let endpoint = |(address, node, more): &(&str, &str, Value)| {
        let mut endpoint = json!({"addresses": [address], "nodeName": node});
        merge(&mut endpoint, more.clone());
        endpoint
    };
    serde_json::from_value(json!({
        "addressType": "IPv4",
        "metadata": {
            "namespace": namespace,
            "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": port, "port": 80, "protocol": protocol}],
    }))
    .expect("an EndpointSlice")
}

pub fn model(config: Config, services: &[Service], slices: &[EndpointSlice]) -> Model {
    let mut model = Model::new(config);
    services.iter().for_each(|service| model.apply_service(service));
    slices.iter().for_each(|slice| model.apply_slice(slice));
    model
}

/// The restore input of a first sync on a virgin node.
pub fn rules(config: Config, services: &[Service], slices: &[EndpointSlice]) -> String {
    model(config, services, slices).full_sync(&Observed::default()).restore.expect("a full sync writes")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}
