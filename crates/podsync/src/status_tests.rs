use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::memory::Memory;
use crate::plan::plan;
use crate::runtime::PodRuntime;
use crate::testing::{at, exited, pod_of, running, sandbox};

struct Case {
    spec: Value,
    containers: Vec<Container>,
    memory: Memory,
    stage: Stage,
    sandbox_ready: bool,
}

fn case(spec: Value, containers: Vec<Container>) -> Case {
    Case { spec, containers, memory: Memory::default(), stage: Stage::Run, sandbox_ready: true }
}

impl Case {
    fn status(&self) -> PodStatus {
        let pod = pod_of(self.spec.clone());
        let runtime =
            PodRuntime { sandboxes: vec![sandbox("sb", self.sandbox_ready)], containers: self.containers.clone() };
        let probes = BTreeMap::new();
        let input = Input {
            pod: &pod,
            stage: &self.stage,
            runtime: &runtime,
            memory: &self.memory,
            probes: &probes,
            now: at(100),
        };
        status(&input, &plan(&input), &["192.168.0.1".to_owned()])
    }
}

/// `phase; name=state...; false conditions`, init containers first.
fn words(status: &PodStatus) -> String {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let states = lists.into_iter().flatten().flatten().map(|s| {
        let state = s.state.clone().unwrap_or_default();
        let word = match (state.running, state.waiting, state.terminated) {
            (Some(_), ..) => "Running".to_owned(),
            (_, Some(waiting), _) => waiting.reason.unwrap_or_default(),
            (.., Some(ended)) => format!("exit {}", ended.exit_code),
            _ => "none".into(),
        };
        let last = s.last_state.as_ref().and_then(|l| l.terminated.as_ref());
        format!("{}={word}{}", s.name, last.map_or(String::new(), |t| format!("<{}", t.exit_code)))
    });
    let unmet = status.conditions.iter().flatten().filter(|c| c.status != "True").map(|c| c.type_.as_str());
    let phase = status.phase.as_deref().unwrap_or_default();
    format!("{phase}; {}; {}", states.collect::<Vec<_>>().join(" "), unmet.collect::<Vec<_>>().join(" "))
}

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]})
}

#[test]
fn phases_states_and_conditions() {
    let check = |case: Case, expected: &str| assert_eq!(words(&case.status()), expected);
    check(case(one("Always"), vec![]), "Pending; a=ContainerCreating; Ready ContainersReady");
    check(case(one("Always"), vec![running("a", 0)]), "Running; a=Running; ");
    check(case(one("Always"), vec![running("a", 1), exited("a", 0, 3, 50)]), "Running; a=Running<3; ");
    check(case(one("Never"), vec![exited("a", 0, 0, 50)]), "Succeeded; a=exit 0; Ready ContainersReady");
    check(case(one("Never"), vec![exited("a", 0, 2, 50)]), "Failed; a=exit 2; Ready ContainersReady");
    check(case(one("OnFailure"), vec![exited("a", 0, 2, 50)]), "Running; a=exit 2; Ready ContainersReady");
    let mut crashing = case(one("Always"), vec![exited("a", 1, 1, 95), exited("a", 0, 1, 40)]);
    crashing.memory.crashes.next("a", at(80), at(90));
    check(crashing, "Running; a=CrashLoopBackOff<1; Ready ContainersReady");
    let mut hooked = case(one("Always"), vec![running("a", 1), exited("a", 0, 3, 50)]);
    hooked.memory.launching.insert("a".into());
    check(hooked, "Running; a=ContainerCreating<3; Ready ContainersReady");
    let mut unpullable = case(one("Always"), vec![]);
    unpullable.memory.failures.insert("a".into(), Reason::new("ErrImagePull", "x"));
    check(unpullable, "Pending; a=ErrImagePull; Ready ContainersReady");
}

#[test]
fn init_containers() {
    let spec = json!({
        "initContainers": [{"name": "i", "image": "i"}, {"name": "s", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "i"}]});
    let check = |containers: Vec<Container>, expected: &str| {
        assert_eq!(words(&case(spec.clone(), containers).status()), expected);
    };
    let begin = "Pending; i=Running s=PodInitializing a=PodInitializing; Initialized Ready ContainersReady";
    check(vec![running("i", 0)], begin);
    let middle = "Pending; i=exit 0 s=Running a=ContainerCreating; Ready ContainersReady";
    check(vec![running("s", 0), exited("i", 0, 0, 9)], middle);
    check(vec![running("a", 0), running("s", 0), exited("i", 0, 0, 9)], "Running; i=exit 0 s=Running a=Running; ");
}

#[test]
fn readiness_waits_for_its_probe() {
    let mut spec = one("Always");
    spec["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 1}});
    let status = case(spec, vec![running("a", 0)]).status();
    assert_eq!(words(&status), "Running; a=Running; Ready ContainersReady");
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready").expect("a Ready condition");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
}

#[test]
fn a_pod_past_its_deadline_has_failed_once_it_is_down() {
    let mut late = case(one("Always"), vec![exited("a", 0, 137, 99)]);
    late.stage = Stage::Terminate { grace_seconds: 1, failed: Some(Reason::new("DeadlineExceeded", "late")) };
    // Not while something of it still stands.
    let status = late.status();
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Running"), None));
    late.sandbox_ready = false;
    late.memory.stopped.insert("sb".into());
    let status = late.status();
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
}

#[test]
fn addresses_and_ids() {
    let status = case(one("Always"), vec![running("a", 0)]).status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.2"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.1"));
    let container = &status.container_statuses.expect("one status")[0];
    assert_eq!(container.container_id.as_deref(), Some("containerd://a-0"));
    assert!(container.ready && container.started == Some(true));
}
