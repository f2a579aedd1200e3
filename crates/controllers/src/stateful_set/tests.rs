use serde_json::{Value, json};

use super::*;
use crate::testing::{at, object, said, writes};

/// (ordinal, phase, ready, revision)
type Given<'a> = (i32, &'a str, bool, &'a str);

fn check(spec: Value, pods: &[Given], expected: &[&str]) {
    let mut full = json!({
        "selector": {"matchLabels": {"app": "db"}}, "serviceName": "db",
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}},
    });
    full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    let mut set: StatefulSet = object(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "u"}, "spec": full}));
    let Some(revision::Ensured { revision, .. }) =
        revision::ensure(&set, &set.spec.clone().unwrap_or_default().template, &[], None, &|_| false)
    else {
        panic!("nothing collides")
    };
    set.status.get_or_insert_default().current_revision = Some(revision.name().to_owned());
    let pods: Vec<Arc<Pod>> = pods
        .iter()
        .map(|(ordinal, phase, ready, hash)| {
            let hash = if *hash == "new" { revision.name() } else { hash };
            let labels = json!({"app": "db", "controller-revision-hash": hash});
            crate::testing::pod(&format!("db-{ordinal}"), "u", labels, phase, *ready)
        })
        .collect();
    let observed = Observed {
        set: &set,
        pods: &pods,
        revisions: &[Arc::new(revision)],
        name_taken: &|_| false,
        claim_exists: &|_| false,
    };
    assert_eq!(writes(&plan(&observed, at(1000))), expected);
}

#[test]
fn ordered_steps() {
    check(json!({"replicas": 2}), &[], &["create pods/db-0"]);
    check(json!({"replicas": 2}), &[(0, "Running", false, "new")], &[]);
    check(json!({"replicas": 2}), &[(0, "Running", true, "new")], &["create pods/db-1"]);
    check(json!({"replicas": 2}), &[(0, "Failed", false, "new")], &["delete pods/db-0"]);
    let three = [(0, "Running", true, "new"), (1, "Running", true, "new"), (2, "Running", true, "new")];
    check(json!({"replicas": 1}), &three, &["delete pods/db-2"]);
    check(json!({"replicas": 2, "ordinals": {"start": 5}}), &[], &["create pods/db-5"]);
}

#[test]
fn parallel_steps() {
    let parallel = |replicas: i32| json!({"replicas": replicas, "podManagementPolicy": "Parallel"});
    check(parallel(2), &[], &["create pods/db-0", "create pods/db-1"]);
    let both = [(0, "Running", false, "new"), (1, "Running", true, "new")];
    check(parallel(0), &both, &["delete pods/db-1", "delete pods/db-0"]);
}

#[test]
fn updates_go_from_the_top_down_to_the_partition() {
    let old = [(0, "Running", true, "old"), (1, "Running", true, "old")];
    check(json!({"replicas": 2}), &old, &["delete pods/db-1"]);
    let half = [(0, "Running", true, "old"), (1, "Running", true, "new")];
    check(json!({"replicas": 2}), &half, &["delete pods/db-0"]);
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    check(json!({"replicas": 2, "updateStrategy": strategy}), &half, &[]);
    check(json!({"replicas": 2, "updateStrategy": {"type": "OnDelete"}}), &old, &[]);
}

#[test]
fn claims_come_before_the_pod() {
    let claims = json!([{"metadata": {"name": "data"}, "spec": {}}]);
    let expected = ["create persistentvolumeclaims/data-db-0", "create pods/db-0"];
    check(json!({"replicas": 1, "volumeClaimTemplates": claims}), &[], &expected);
}

#[test]
fn pods_have_names_of_their_own() {
    let set: StatefulSet = object(json!({
        "metadata": {"name": "db", "namespace": "ns", "uid": "u"},
        "spec": {"selector": {}, "serviceName": "svc", "template": {"spec": {"containers": []}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]},
    }));
    let template = set.spec.clone().unwrap_or_default().template;
    let pod = identity::pod(&set, &template, "db-abc", 3);
    let spec = pod.spec.clone().expect("stamped");
    assert_eq!((pod.name(), pod.label("apps.kubernetes.io/pod-index")), ("db-3", Some("3")));
    assert_eq!(pod.label("statefulset.kubernetes.io/pod-name"), Some("db-3"));
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-3"), Some("svc")));
    let claim = spec.volumes.expect("one")[0].persistent_volume_claim.clone().expect("a claim");
    assert_eq!(claim.claim_name, "data-db-3");
}

#[test]
fn creating_is_announced() {
    let set: StatefulSet = object(json!({
        "metadata": {"name": "db", "namespace": "ns", "uid": "u"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}, "serviceName": "db", "replicas": 1,
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}}},
    }));
    let observed = Observed { set: &set, pods: &[], revisions: &[], name_taken: &|_| false, claim_exists: &|_| true };
    let expected = ["SuccessfulCreate: create Pod db-0 in StatefulSet db successful"];
    assert_eq!(said(&plan(&observed, at(0))), expected);
}
