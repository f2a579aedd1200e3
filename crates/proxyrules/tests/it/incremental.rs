//! A sync writes the chains that changed and deletes the ones that went, and leaves the rest alone.

use proxyrules::{Observed, ServiceKey, cleanup};
use serde_json::json;

use crate::fixture::{config, model, service, slice};

fn chains_named(restore: &str) -> Vec<String> {
    restore.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn an_endpoint_more_touches_only_its_service() {
    let one = slice("ns1", "svc1", &[("10.180.0.1", "a", json!({}))]);
    let other = slice("ns2", "svc2", &[("10.180.0.9", "a", json!({}))]);
    let services = [service("ns1", "svc1", "172.30.0.41", json!({})), service("ns2", "svc2", "172.30.0.42", json!({}))];
    let mut model = model(config(), &services, &[one, other]);
    model.full_sync(&Observed::default());
    assert_eq!(model.sync().restore, None, "nothing changed");

    model.apply_slice(&slice("ns1", "svc1", &[("10.180.0.1", "a", json!({})), ("10.180.0.2", "a", json!({}))]));
    let restore = model.sync().restore.expect("a change");
    let mut named = chains_named(&restore);
    named.sort();
    assert_eq!(named.len(), 2, "the new endpoint's chain and the Service's: {restore}");
    assert!(named[0].starts_with("KUBE-SEP-"));
    assert_eq!(named[1], "KUBE-SVC-XPGD46QRK7WJZT7O");
    assert_eq!(model.sync().restore, None);
}

#[test]
fn a_deleted_service_leaves_no_chain() {
    let services = [service("ns1", "svc1", "172.30.0.41", json!({}))];
    let mut model = model(config(), &services, &[slice("ns1", "svc1", &[("10.180.0.1", "a", json!({}))])]);
    model.full_sync(&Observed::default());
    model.delete_service(&ServiceKey::new("ns1", "svc1"));
    let restore = model.sync().restore.expect("a change");
    assert!(restore.contains("-X KUBE-SVC-XPGD46QRK7WJZT7O\n"), "{restore}");
    assert!(restore.contains("-X KUBE-SEP-SXIVWICOYRO3J4NJ\n"), "{restore}");
    assert!(!restore.contains("172.30.0.41"), "{restore}");
    assert!(model.rules().chains().all(|(_, chain)| !chain.starts_with("KUBE-S") || chain == "KUBE-SERVICES"));
}

#[test]
fn a_full_sync_adds_missing_jumps_and_removes_strange_chains() {
    let save = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n:KUBE-SERVICES - [0:0]\n\
                :COX-PODNET-MASQ - [0:0]\n\
                -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n";
    let restore = model(config(), &[], &[]).full_sync(&Observed::parse(save)).restore.expect("a full sync writes");
    assert!(restore.contains("-X KUBE-SVC-AAAAAAAAAAAAAAAA\n"));
    assert!(!restore.contains("-I PREROUTING"), "it is there");
    assert!(restore.contains("-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"));
    assert!(!restore.contains("COX-PODNET-MASQ"), "not ours");
}

#[test]
fn cleanup_removes_ours_and_nothing_else() {
    let save = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:MINE - [0:0]\n\
                -A PREROUTING -j MINE\n-A PREROUTING -m comment --comment \"a b\" -j KUBE-SERVICES\n\
                -A KUBE-SERVICES -j KUBE-MARK-MASQ\nCOMMIT\n";
    let expected = "*nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SERVICES - [0:0]\n\
                    -D PREROUTING -m comment --comment \"a b\" -j KUBE-SERVICES\n\
                    -X KUBE-MARK-MASQ\n-X KUBE-SERVICES\nCOMMIT\n";
    assert_eq!(cleanup(save), expected);
}
