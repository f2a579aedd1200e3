use std::sync::Arc;

use serde_json::{Value, json};

use crate::labels::Labels;
use crate::pod::{Owner, PodInfo};
use crate::selector::Selector;
use crate::snapshot::Snapshot;
use crate::testing::{cluster, labelled, node, pod, scores, verdicts};

fn zones(members: &[&'static str]) -> Snapshot {
    let node = |name: &str, zone: &str| labelled(name, json!({"zone": zone}));
    let nodes = [node("a1", "a"), node("a2", "a"), node("b1", "b"), labelled("bare", json!({}))];
    cluster(nodes, members.iter().enumerate().map(|(i, on)| (*on, member(&format!("m{i}")))))
}

fn member(name: &str) -> PodInfo {
    pod(name, json!({"metadata": {"labels": {"app": "web"}}}))
}

fn spreading(mut constraint: Value) -> PodInfo {
    if constraint["labelSelector"].is_null() {
        constraint["labelSelector"] = json!({"matchLabels": {"app": "web"}});
    }
    let spec = json!({"topologySpreadConstraints": [constraint]});
    pod("p", json!({"metadata": {"labels": {"app": "web"}}, "spec": spec}))
}

fn hard(more: Value) -> PodInfo {
    let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    for (key, value) in more.as_object().expect("an object") {
        constraint[key] = value.clone();
    }
    spreading(constraint)
}

const FULL: Option<&str> = Some("node(s) didn't match pod topology spread constraints");
const BARE: Option<&str> = Some("node(s) didn't match pod topology spread constraints (missing required label)");

fn check(snapshot: &Snapshot, pod: &PodInfo, expected: [Option<&str>; 4]) {
    let got = verdicts("PodTopologySpread", json!(null), snapshot, pod);
    assert_eq!(got, expected.map(|e| e.map(String::from)));
}

#[test]
fn filter() {
    check(&zones(&[]), &hard(json!({})), [None, None, None, BARE]);
    check(&zones(&["a1"]), &hard(json!({})), [FULL, FULL, None, BARE]);
    check(&zones(&["a1", "b1"]), &hard(json!({})), [None, None, None, BARE]);
    check(&zones(&["a1", "a2"]), &hard(json!({"maxSkew": 2})), [FULL, FULL, None, BARE]);
    // Two domains where three are demanded: the minimum counts as zero.
    check(&zones(&["a1", "b1"]), &hard(json!({"minDomains": 3})), [FULL, FULL, FULL, BARE]);
    check(&zones(&["a1"]), &hard(json!({"labelSelector": {"matchLabels": {"app": "db"}}})), [None, None, None, BARE]);
}

#[test]
fn terminating_members_do_not_count() {
    let mut leaving = member("m");
    leaving.terminating = true;
    let mut snapshot = zones(&[]);
    snapshot.add_pod("a1", Arc::new(leaving));
    check(&snapshot, &hard(json!({})), [None, None, None, BARE]);
}

#[test]
fn inclusion_policies() {
    // Zone b is out of the pod's reach: with Honor it does not hold zone a down.
    let reach = |policy: &str| {
        let mut pod = hard(json!({"nodeAffinityPolicy": policy}));
        let selector = json!({"spec": {"nodeSelector": {"zone": "a"}}});
        pod.node_affinity = crate::testing::pod("x", selector).node_affinity;
        pod
    };
    check(&zones(&["a1"]), &reach("Honor"), [None, None, None, BARE]);
    check(&zones(&["a1"]), &reach("Ignore"), [FULL, FULL, None, BARE]);
    let mut tainted = zones(&["a1"]);
    let taint = json!([{"key": "k", "effect": "NoSchedule"}]);
    tainted.set_node(node("b1", json!({"metadata": {"labels": {"zone": "b"}}, "spec": {"taints": taint}})));
    check(&tainted, &hard(json!({})), [FULL, FULL, None, BARE]);
    check(&tainted, &hard(json!({"nodeTaintsPolicy": "Honor"})), [None, None, None, BARE]);
}

fn check_scores(snapshot: &Snapshot, pod: &PodInfo, expected: Option<[i64; 4]>) {
    let got = scores("PodTopologySpread", json!(null), snapshot, pod);
    assert_eq!(got, expected.map(Vec::from));
}

#[test]
fn score() {
    let soft = |key: &str| spreading(json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway"}));
    check_scores(&zones(&[]), &soft("zone"), Some([100, 100, 100, 0]));
    check_scores(&zones(&["a1"]), &soft("zone"), Some([0, 0, 100, 0]));
    check_scores(&zones(&["a1", "a2", "b1"]), &soft("zone"), Some([33, 33, 100, 0]));
    check_scores(&zones(&["a1"]), &soft("kubernetes.io/hostname"), Some([0, 100, 100, 100]));
    check_scores(&zones(&["a1"]), &hard(json!({})), None);
}

#[test]
fn system_defaults_spread_what_a_service_or_a_controller_groups() {
    let mut snapshot = zones(&["a1", "a1"]);
    check_scores(&snapshot, &member("p"), None);
    snapshot.services.insert(("default".into(), "web".into()), Labels::from([("app", "web")]));
    // By hostname only (no zone labels): 2 members on a1; ln(4 + 2) * 2 + 2 = 6 against 2.
    check_scores(&snapshot, &member("p"), Some([33, 100, 100, 100]));
    snapshot.services.clear();
    let owner = Owner { kind: "ReplicaSet".into(), name: "web-1".into() };
    snapshot.workloads.insert(("default".into(), owner.clone()), Selector::equal_to([("app", "web")]));
    check_scores(&snapshot, &PodInfo { owner: Some(owner), ..member("p") }, Some([33, 100, 100, 100]));
}
