//! Whole rule sets as text: the lines that people grep for.

use serde_json::json;

use crate::fixture::{NODE, config, rules, service, slice, with_ingress};

/// One Service of each kind: plain, Local load balancer, node port, external IP, source ranges, without endpoints.
#[test]
fn every_kind_of_service() {
    let lb = |etp: &str, port: u16, check: u16| {
        json!({"type": "LoadBalancer", "externalTrafficPolicy": etp, "healthCheckNodePort": check,
               "ports": [{"name": "p80", "port": 80, "nodePort": port}]})
    };
    let mut local = with_ingress(service("ns2", "svc2", "172.30.0.42", lb("Local", 3001, 30000)), "1.2.3.4");
    local.spec.as_mut().expect("a spec").external_ips = Some(vec!["192.168.99.22".into()]);
    let mut ranges = with_ingress(service("ns5", "svc5", "172.30.0.45", lb("Cluster", 3002, 30000)), "5.6.7.8");
    ranges.spec.as_mut().expect("a spec").load_balancer_source_ranges = Some(vec![" 203.0.113.0/25".into()]);
    let node_port = json!({"type": "NodePort", "ports": [{"name": "p80", "port": 80, "nodePort": 3003}]});
    let services = [
        service("ns1", "svc1", "172.30.0.41", json!({})),
        local,
        service("ns3", "svc3", "172.30.0.43", node_port),
        service("ns4", "svc4", "172.30.0.44", json!({"type": "NodePort", "externalIPs": ["192.168.99.33"]})),
        ranges,
        service("ns6", "svc6", "172.30.0.46", json!({})),
    ];
    let at = |service: &str, ip: &str| slice(&service.replace("svc", "ns"), service, &[(ip, "elsewhere", json!({}))]);
    let slices = [
        at("svc1", "10.180.0.1"),
        at("svc2", "10.180.0.2"),
        at("svc3", "10.180.0.3"),
        slice("ns4", "svc4", &[("10.180.0.4", "elsewhere", json!({})), ("10.180.0.5", NODE, json!({}))]),
        at("svc5", "10.180.0.3"),
    ];
    insta::assert_snapshot!(rules(config(), &services, &slices));
}

#[test]
fn session_affinity_remembers_before_it_chooses() {
    let affinity = json!({"sessionAffinity": "ClientIP"});
    let services = [service("ns1", "svc1", "172.30.0.41", affinity)];
    let endpoints = [("10.180.0.1", "a", json!({})), ("10.180.0.2", "b", json!({})), ("10.180.0.3", "c", json!({}))];
    let text = rules(config(), &services, &[slice("ns1", "svc1", &endpoints)]);
    let own: Vec<_> = text.lines().filter(|line| line.starts_with("-A KUBE-S") && line.contains("10.180")).collect();
    insta::assert_snapshot!(own.join("\n"));
}
