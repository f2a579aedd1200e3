//! What packets experience: the rules are judged by their effect, whatever their text.

use k8s_openapi::api::core::v1::Service;
use proxyrules::{Config, NodePortAddresses};
use serde_json::{Value, json};

use crate::fixture::{NODE, NODE_IP, config, rules, service, slice, with_ingress};
use crate::trace::{Tables, packet};

const POD: &str = "10.0.0.2";
const CLIENT: &str = "203.0.113.7";
const VIP: &str = "172.30.0.41";
const INGRESS: &str = "1.2.3.4";
const LOCAL_EP: &str = "10.180.0.1";
const REMOTE_EP: &str = "10.180.0.2";

/// The tables of a Service ns1/svc1 with these endpoints.
fn tables(config: Config, service: Service, endpoints: &[(&str, &str, Value)]) -> Tables {
    Tables::load(&rules(config, &[service], &[slice("ns1", "svc1", endpoints)]), &[NODE_IP, "127.0.0.1"])
}

fn check(tables: &Tables, expected: &[(&str, &str, u16, &str)]) {
    for (source, destination, port, fate) in expected {
        assert_eq!(tables.fate(&packet(source, destination, *port)), *fate, "{source} -> {destination}:{port}");
    }
}

fn load_balancer(spec: Value) -> Service {
    let mut all = json!({"type": "LoadBalancer", "externalIPs": ["192.168.99.11"],
                         "ports": [{"name": "p80", "port": 80, "nodePort": 3001}]});
    all.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    with_ingress(service("ns1", "svc1", VIP, all), INGRESS)
}

#[test]
fn a_cluster_ip_reaches_all_ready_endpoints() {
    let endpoints = [
        (LOCAL_EP, NODE, json!({})),
        (REMOTE_EP, "b", json!({})),
        ("10.180.0.3", "b", json!({"conditions": {"ready": false}})),
    ];
    let tables = tables(config(), service("ns1", "svc1", VIP, json!({})), &endpoints);
    check(
        &tables,
        &[
            (POD, VIP, 80, "10.180.0.1:80, 10.180.0.2:80"),
            (CLIENT, VIP, 80, "10.180.0.1:80 masqueraded, 10.180.0.2:80 masqueraded"),
            (NODE_IP, VIP, 80, "10.180.0.1:80 masqueraded, 10.180.0.2:80 masqueraded"),
            (POD, VIP, 81, "unchanged"),
            // Hairpin: to itself masqueraded, to the other one as it is.
            (LOCAL_EP, VIP, 80, "10.180.0.1:80 masqueraded, 10.180.0.2:80"),
        ],
    );
}

#[test]
fn without_endpoints_everything_is_rejected() {
    let tables = tables(config(), load_balancer(json!({})), &[]);
    check(
        &tables,
        &[
            (POD, VIP, 80, "REJECT"),
            (NODE_IP, VIP, 80, "REJECT"),
            (CLIENT, "192.168.99.11", 80, "REJECT"),
            (CLIENT, INGRESS, 80, "REJECT"),
            (CLIENT, NODE_IP, 3001, "REJECT"),
        ],
    );
}

#[test]
fn external_cluster_policy_masquerades() {
    let tables = tables(config(), load_balancer(json!({})), &[(REMOTE_EP, "b", json!({}))]);
    let masqueraded = "10.180.0.2:80 masqueraded";
    check(
        &tables,
        &[
            (CLIENT, NODE_IP, 3001, masqueraded),
            (CLIENT, INGRESS, 80, masqueraded),
            (CLIENT, "192.168.99.11", 80, masqueraded),
            ("127.0.0.1", "127.0.0.1", 3001, masqueraded),
        ],
    );
}

#[test]
fn external_local_policy_keeps_the_client_and_stays_here() {
    let spec = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 30000});
    let both = [(LOCAL_EP, NODE, json!({})), (REMOTE_EP, "b", json!({}))];
    let here = tables(config(), load_balancer(spec.clone()), &both);
    check(
        &here,
        &[
            (CLIENT, NODE_IP, 3001, "10.180.0.1:80"),
            (CLIENT, INGRESS, 80, "10.180.0.1:80"),
            // Pods and the node itself are not external: they use the whole cluster.
            (POD, INGRESS, 80, "10.180.0.1:80, 10.180.0.2:80"),
            (NODE_IP, NODE_IP, 3001, "10.180.0.1:80 masqueraded, 10.180.0.2:80 masqueraded"),
            (POD, VIP, 80, "10.180.0.1:80, 10.180.0.2:80"),
        ],
    );
    let elsewhere = tables(config(), load_balancer(spec), &both[1..]);
    check(
        &elsewhere,
        &[
            (CLIENT, NODE_IP, 3001, "DROP"),
            (CLIENT, INGRESS, 80, "DROP"),
            (POD, INGRESS, 80, "10.180.0.2:80"),
            (POD, VIP, 80, "10.180.0.2:80"),
        ],
    );
}

#[test]
fn internal_local_policy_drops_without_a_local_endpoint() {
    let spec = json!({"internalTrafficPolicy": "Local"});
    let both = [(LOCAL_EP, NODE, json!({})), (REMOTE_EP, "b", json!({}))];
    check(&tables(config(), service("ns1", "svc1", VIP, spec.clone()), &both), &[(POD, VIP, 80, "10.180.0.1:80")]);
    check(&tables(config(), service("ns1", "svc1", VIP, spec), &both[1..]), &[(POD, VIP, 80, "DROP")]);
}

#[test]
fn draining_endpoints_serve_when_no_other_does() {
    let draining = json!({"conditions": {"ready": false, "serving": true, "terminating": true}});
    let gone = json!({"conditions": {"ready": false, "serving": false, "terminating": true}});
    let plain = || service("ns1", "svc1", VIP, json!({}));
    let ready = (LOCAL_EP, NODE, json!({}));
    let fate = |endpoints: &[(&str, &str, Value)], expected| {
        check(&tables(config(), plain(), endpoints), &[(POD, VIP, 80, expected)]);
    };
    fate(&[ready, (REMOTE_EP, "b", draining.clone())], "10.180.0.1:80");
    fate(&[(LOCAL_EP, NODE, gone), (REMOTE_EP, "b", draining)], "10.180.0.2:80");
}

#[test]
fn source_ranges_guard_the_load_balancer_only() {
    let spec = json!({"loadBalancerSourceRanges": ["203.0.113.0/25"]});
    let tables = tables(config(), load_balancer(spec), &[(REMOTE_EP, "b", json!({}))]);
    check(
        &tables,
        &[
            (CLIENT, INGRESS, 80, "10.180.0.2:80 masqueraded"),
            ("198.51.100.1", INGRESS, 80, "DROP"),
            ("198.51.100.1", NODE_IP, 3001, "10.180.0.2:80 masqueraded"),
        ],
    );
}

#[test]
fn hints_keep_traffic_near_only_when_complete() {
    let here = json!({"hints": {"forNodes": [{"name": NODE}], "forZones": [{"name": "z1"}]}});
    let there = json!({"hints": {"forNodes": [{"name": "b"}], "forZones": [{"name": "z2"}]}});
    let fate = |zone: Option<&str>, endpoints: [Value; 2], expected| {
        let mut config = config();
        config.zone = zone.map(str::to_owned);
        let [first, second] = endpoints;
        let endpoints = [(LOCAL_EP, NODE, first), (REMOTE_EP, "b", second)];
        check(&tables(config, service("ns1", "svc1", VIP, json!({})), &endpoints), &[(POD, VIP, 80, expected)]);
    };
    let zone_only = |zone: &str| json!({"hints": {"forZones": [{"name": zone}]}});
    fate(None, [here.clone(), there], "10.180.0.1:80");
    fate(None, [here.clone(), json!({})], "10.180.0.1:80, 10.180.0.2:80");
    fate(Some("z2"), [zone_only("z1"), zone_only("z2")], "10.180.0.2:80");
    fate(Some("z3"), [zone_only("z1"), zone_only("z2")], "10.180.0.1:80, 10.180.0.2:80");
    fate(Some("z1"), [here, json!({})], "10.180.0.1:80, 10.180.0.2:80");
}

#[test]
fn node_port_addresses_limit_where_node_ports_open() {
    let mut limited = config();
    limited.node_port_addresses = NodePortAddresses::Only([NODE_IP.parse().expect("an address")].into());
    let tables = tables(limited, load_balancer(json!({})), &[(REMOTE_EP, "b", json!({}))]);
    check(
        &tables,
        &[(CLIENT, NODE_IP, 3001, "10.180.0.2:80 masqueraded"), ("127.0.0.1", "127.0.0.1", 3001, "unchanged")],
    );
}

#[test]
fn udp_and_sctp_are_not_tcp() {
    let ports = json!({"ports": [{"name": "p80", "port": 80, "protocol": "SCTP"}]});
    let service = service("ns1", "svc1", VIP, ports);
    let slice = crate::fixture::slice_of("p80", "SCTP", "ns1", "svc1", &[(REMOTE_EP, "b", json!({}))]);
    let tables = Tables::load(&rules(config(), &[service], &[slice]), &[NODE_IP]);
    let mut sctp = packet(POD, VIP, 80);
    assert_eq!(tables.fate(&sctp), "unchanged");
    sctp.protocol = "sctp";
    assert_eq!(tables.fate(&sctp), "10.180.0.2:80");
}
