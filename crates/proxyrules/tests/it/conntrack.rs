//! Which UDP flows are forgotten, as arguments of `conntrack`.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proxyrules::{Model, Observed};
use serde_json::json;

use crate::fixture::{config, model, service, slice_of};

fn udp_service() -> Service {
    let ports =
        json!({"type": "NodePort", "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
    service("ns1", "svc1", "172.30.0.10", ports)
}

fn endpoints(ips: &[&str]) -> EndpointSlice {
    let endpoints: Vec<_> = ips.iter().map(|ip| (*ip, "a", json!({}))).collect();
    slice_of("dns", "UDP", "ns1", "svc1", &endpoints)
}

fn synced(ips: &[&str]) -> Model {
    let mut model = model(config(), &[udp_service()], &[endpoints(ips)]);
    assert_eq!(model.full_sync(&Observed::default()).stale_flows, []);
    model
}

#[test]
fn flows_to_removed_endpoints_go() {
    let check = |before: &[&str], after: &[&str], expected: &[&str]| {
        let mut model = synced(before);
        model.apply_slice(&endpoints(after));
        let flows: Vec<_> = model.sync().stale_flows.iter().map(|flow| flow.conntrack_args().join(" ")).collect();
        assert_eq!(flows, expected, "{before:?} -> {after:?}");
    };
    check(&["10.1.0.1"], &["10.1.0.1", "10.1.0.2"], &[]);
    check(
        &["10.1.0.1", "10.1.0.2"],
        &["10.1.0.2"],
        &[
            "-D -p udp --orig-port-dst 30053 --dst-nat 10.1.0.1",
            "-D -p udp --orig-port-dst 53 --orig-dst 172.30.0.10 --dst-nat 10.1.0.1",
        ],
    );
    check(
        &[],
        &["10.1.0.2"],
        &["-D -p udp --orig-port-dst 30053", "-D -p udp --orig-port-dst 53 --orig-dst 172.30.0.10"],
    );
}

#[test]
fn a_restarted_proxy_finds_flows_that_went_stale_meanwhile() {
    let check = |line: &str, expected: &[&str]| {
        let flows = synced(&["10.1.0.1"]).stale_entries(line);
        let args: Vec<_> = flows.iter().map(|flow| flow.conntrack_args().join(" ")).collect();
        assert_eq!(args, expected, "{line}");
    };
    let entry = |dst: &str, dport: u16, replier: &str| {
        format!(
            "udp      17 29 src=10.9.0.9 dst={dst} sport=4000 dport={dport} [UNREPLIED] \
             src={replier} dst=10.9.0.9 sport=80 dport=4000 mark=0 use=1"
        )
    };
    check(&entry("172.30.0.10", 53, "10.1.0.1"), &[]);
    check(&entry("172.30.0.99", 53, "10.1.0.7"), &[]);
    check(
        &entry("172.30.0.10", 53, "10.1.0.7"),
        &["-D -p udp --orig-port-dst 53 --orig-dst 172.30.0.10 --orig-src 10.9.0.9 --orig-port-src 4000"],
    );
    check(
        &entry("192.168.0.2", 30053, "10.1.0.7"),
        &["-D -p udp --orig-port-dst 30053 --orig-dst 192.168.0.2 --orig-src 10.9.0.9 --orig-port-src 4000"],
    );
}
