use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::testing::{at, object, said, status, writes};

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    object(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1,
            "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v2"}]}},
        },
    }))
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

/// (image, wanted, available), marked as scaled for `desired` with a surge of one
fn set(image: &str, wanted: i32, available: i32, desired: i32) -> Arc<ReplicaSet> {
    Arc::new(object(json!({
        "metadata": {
            "name": format!("web-{image}"), "namespace": "ns", "uid": format!("uid-{image}"), "generation": 1,
            "resourceVersion": "1", "labels": {"app": "web", "pod-template-hash": image},
            "creationTimestamp": if image == "v1" { "1970-01-01T00:00:00Z" } else { "1970-01-01T00:01:00Z" },
            "annotations": {
                "deployment.kubernetes.io/revision": image.trim_start_matches('v'),
                "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": (desired + 1).to_string(),
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true}],
        },
        "spec": {
            "replicas": wanted, "selector": {},
            "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": image}},
                "spec": {"containers": [{"name": "c", "image": image}]}},
        },
        "status": {"replicas": wanted, "availableReplicas": available, "readyReplicas": available, "observedGeneration": 1},
    })))
}

fn run(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Plan {
    plan(&Observed { deployment, sets, pods: &[], name_taken: &|_| false, failure: None }, at(1000))
}

fn check(deployment: &Deployment, sets: &[Arc<ReplicaSet>], expected: &[&str]) {
    let lines: Vec<String> = said(&run(deployment, sets))
        .into_iter()
        .filter_map(|line| line.strip_prefix("ScalingReplicaSet: Scaled ").map(str::to_owned))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_new_deployment_gets_its_first_set() {
    let plan = run(&deployment(3, rolling(json!(1), json!(0))), &[]);
    let [create, annotate] = &writes(&plan)[..] else { panic!("{plan:?}") };
    assert!(create.starts_with("create replicasets/web-"), "{create}");
    assert_eq!(annotate, "patch deployments/web");
    let name = create.trim_start_matches("create replicasets/");
    assert_eq!(said(&plan), [format!("ScalingReplicaSet: Scaled up replica set {name} from 0 to 3")]);
    let status = status(&plan).expect("written");
    assert_eq!(status["conditions"][0]["reason"], "MinimumReplicasUnavailable");
}

#[test]
fn rolling_steps() {
    let with = |surge, unavailable| deployment(3, rolling(surge, unavailable));
    // Grow first, as far as the surge allows.
    check(&with(json!(1), json!(0)), &[set("v1", 3, 3, 3), set("v2", 0, 0, 3)], &["up replica set web-v2 from 0 to 1"]);
    // Wait while the new pod is not available.
    check(&with(json!(1), json!(0)), &[set("v1", 3, 3, 3), set("v2", 1, 0, 3)], &[]);
    check(
        &with(json!(1), json!(0)),
        &[set("v1", 3, 3, 3), set("v2", 1, 1, 3)],
        &["down replica set web-v1 from 3 to 2"],
    );
    // Broken old pods make room at once.
    check(
        &with(json!(1), json!(1)),
        &[set("v1", 3, 0, 3), set("v2", 1, 0, 3)],
        &["down replica set web-v1 from 3 to 2"],
    );
    // 25 % of three: one above, none below.
    check(
        &with(json!("25%"), json!("25%")),
        &[set("v1", 3, 3, 3), set("v2", 0, 0, 3)],
        &["up replica set web-v2 from 0 to 1"],
    );
}

#[test]
fn scaling_is_shared_out_by_size() {
    let sets = [set("v1", 8, 8, 10), set("v2", 3, 3, 10)];
    check(
        &deployment(20, rolling(json!(1), json!(0))),
        &sets,
        &["up replica set web-v1 from 8 to 15", "up replica set web-v2 from 3 to 6"],
    );
}

#[test]
fn one_active_set_takes_a_scale_alone() {
    check(&deployment(5, rolling(json!(1), json!(0))), &[set("v2", 3, 3, 3)], &["up replica set web-v2 from 3 to 5"]);
}

#[test]
fn recreate_waits_for_the_old() {
    let deployment = deployment(2, json!({"type": "Recreate"}));
    check(&deployment, &[set("v1", 2, 2, 2)], &["down replica set web-v1 from 2 to 0"]);
    let pods = [crate::testing::pod("old", "uid-v1", json!({}), "Running", true)];
    let sets = [set("v1", 0, 0, 2)];
    let observed =
        Observed { deployment: &deployment, sets: &sets, pods: &pods, name_taken: &|_| false, failure: None };
    assert!(said(&plan(&observed, at(1000))).is_empty());
}

#[test]
fn a_taken_name_raises_the_collision_count() {
    let deployment = deployment(1, rolling(json!(1), json!(0)));
    let observed = Observed { deployment: &deployment, sets: &[], pods: &[], name_taken: &|_| true, failure: None };
    let plan = plan(&observed, at(1000));
    assert_eq!(status(&plan).expect("written")["collisionCount"], 1);
    assert!(writes(&plan).is_empty());
}

#[test]
fn a_rollout_that_stands_still_times_out() {
    let mut stuck = deployment(2, rolling(json!(1), json!(0)));
    stuck.spec.get_or_insert_default().progress_deadline_seconds = Some(60);
    stuck.status = Some(object(json!({
        "observedGeneration": 1, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2,
        "unavailableReplicas": 1, "terminatingReplicas": 0,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
            "lastUpdateTime": "1970-01-01T00:00:00Z"}],
    })));
    let sets = [set("v1", 2, 2, 2), set("v2", 1, 0, 2)];
    let status = status(&run(&stuck, &sets)).expect("written");
    let conditions = status["conditions"].as_array().expect("a list");
    let progressing = conditions.iter().find(|condition| condition["type"] == "Progressing").expect("there");
    assert_eq!(progressing["reason"], "ProgressDeadlineExceeded");
    assert_eq!(progressing["message"], "ReplicaSet \"web-v2\" has timed out progressing.");
    stuck.spec.get_or_insert_default().progress_deadline_seconds = Some(2000);
    assert_eq!(run(&stuck, &sets).requeue_after.map(|after| after.as_secs()), Some(1001));
}
