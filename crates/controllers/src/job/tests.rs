use serde_json::{Value, json};

use super::*;
use crate::testing::{at, object, said, status, writes};

fn job(spec: Value, status: Value) -> Job {
    let mut full = json!({
        "completions": 3, "parallelism": 2, "backoffLimit": 6, "selector": {"matchLabels": {"job": "j"}},
        "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"containers": [], "restartPolicy": "Never"}},
    });
    full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    object(json!({
        "metadata": {"name": "j", "namespace": "ns", "uid": "u", "generation": 1}, "spec": full, "status": status,
    }))
}

fn pod(name: &str, phase: &str, tracked: bool) -> Arc<Pod> {
    let mut pod = (*crate::testing::pod(name, "u", json!({"job": "j"}), phase, phase == "Running")).clone();
    pod.metadata.finalizers = tracked.then(|| vec![TRACKING_FINALIZER.to_owned()]);
    Arc::new(pod)
}

fn run(job: &Job, pods: &[Arc<Pod>]) -> Plan {
    plan(&Observed { job, pods }, at(100_000))
}

fn check(spec: Value, pods: &[Arc<Pod>], expected: &[&str]) {
    assert_eq!(writes(&run(&job(spec, json!({})), pods)), expected);
}

#[test]
fn starting_and_stopping_pods() {
    check(json!({}), &[], &["create pods/j-", "create pods/j-"]);
    check(json!({"parallelism": 0}), &[pod("a", "Running", true)], &["delete pods/a"]);
    check(json!({"suspend": true}), &[pod("a", "Running", true)], &["delete pods/a"]);
    check(json!({"completions": 1}), &[pod("a", "Running", true)], &[]);
    check(json!({"completionMode": "Indexed"}), &[], &["create pods/j-0-", "create pods/j-1-"]);
}

/// The three steps of counting one success.
#[test]
fn a_success_is_noted_released_and_counted() {
    let first = run(&job(json!({"parallelism": 0}), json!({})), &[pod("a", "Succeeded", true)]);
    assert_eq!(writes(&first), ["patch pods/a"]);
    let noted = status(&first).expect("written");
    assert_eq!(noted["uncountedTerminatedPods"]["succeeded"], json!(["uid-a"]));
    assert!(noted["succeeded"].is_null());
    let repeated = run(&job(json!({"parallelism": 0}), noted.clone()), &[pod("a", "Succeeded", true)]);
    assert!(status(&repeated).is_none(), "nothing new to note");
    assert_eq!(writes(&repeated), ["patch pods/a"]);
    let counted =
        status(&run(&job(json!({"parallelism": 0}), noted), &[pod("a", "Succeeded", false)])).expect("written");
    assert_eq!(counted["succeeded"], 1);
    assert!(counted["uncountedTerminatedPods"]["succeeded"].is_null());
    let again = run(&job(json!({"parallelism": 0}), counted), &[pod("a", "Succeeded", false)]);
    assert!(again.ops.is_empty(), "counted once: {again:?}");
}

#[test]
fn failures_back_off() {
    let mut failed = (*pod("a", "Failed", true)).clone();
    failed.metadata.creation_timestamp = None;
    let ended = json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "finishedAt": at(99_995).to_string()}}}], "phase": "Failed"});
    failed.status = Some(object(ended));
    let plan = run(&job(json!({}), json!({})), &[Arc::new(failed)]);
    assert_eq!(plan.requeue_after.map(|after| after.as_secs()), Some(5));
    assert_eq!(writes(&plan), ["patch pods/a"]);
}

#[test]
fn the_deadline_ends_a_job_in_two_steps() {
    let late = |status| job(json!({"activeDeadlineSeconds": 10}), status);
    let first = run(&late(json!({"startTime": "1970-01-01T00:00:00Z"})), &[pod("a", "Running", true)]);
    assert_eq!(writes(&first), ["delete pods/a"]);
    let verdict = status(&first).expect("written");
    assert_eq!(verdict["conditions"][0]["type"], "FailureTarget");
    let last = run(&late(verdict), &[]);
    assert_eq!(status(&last).expect("written")["conditions"][1]["type"], "Failed");
    assert_eq!(said(&last), ["DeadlineExceeded: Job was active longer than specified deadline"]);
}

#[test]
fn pods_of_a_finished_job_are_released() {
    let finished = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    assert_eq!(writes(&run(&job(json!({}), finished), &[pod("a", "Failed", true)])), ["patch pods/a"]);
}
