use serde_json::{Value, json};

use super::*;
use crate::testing::{at, container, exited, pod_of, running, sandbox};

struct Case {
    pod: Pod,
    runtime: PodRuntime,
    memory: Memory,
    probes: BTreeMap<String, Probed>,
    stage: Stage,
    second: i64,
}

fn case(spec: Value) -> Case {
    Case {
        pod: pod_of(spec),
        runtime: PodRuntime { sandboxes: vec![sandbox("sb", true)], containers: Vec::new() },
        memory: Memory::default(),
        probes: BTreeMap::new(),
        stage: Stage::Run,
        second: 100,
    }
}

impl Case {
    fn with(mut self, containers: Vec<Container>) -> Case {
        self.runtime.containers = containers;
        self
    }

    fn plan(&self) -> Plan {
        plan(&Input {
            pod: &self.pod,
            stage: &self.stage,
            runtime: &self.runtime,
            memory: &self.memory,
            probes: &self.probes,
            now: at(self.second),
        })
    }

    /// `start a#0` and `kill a-0` words, as compact expectations.
    fn words(&self) -> String {
        let plan = self.plan();
        let mut words = Vec::new();
        words.extend(plan.kills.iter().map(|k| format!("kill {}", k.id)));
        words.extend(plan.stop_sandboxes.iter().map(|id| format!("stop {id}")));
        if let Some(job) = &plan.job {
            words.extend(job.create_sandbox.map(|attempt| format!("sandbox#{attempt}")));
            words.extend(job.start.iter().map(|s| format!("start {}#{}", s.name, s.restart_count)));
        }
        words.extend(plan.remove_containers.iter().map(|id| format!("remove {id}")));
        words.extend(plan.waiting.iter().map(|(name, r)| format!("{name}: {}", r.reason)));
        words.extend(plan.finished.then(|| "finished".to_owned()));
        words.join(", ")
    }
}

fn check(case: Case, expected: &str) {
    assert_eq!(case.words(), expected);
}

fn two() -> Value {
    json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]})
}

fn with_policy(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]})
}

fn with_init() -> Value {
    json!({
        "initContainers": [
            {"name": "i1", "image": "i"},
            {"name": "s", "image": "i", "restartPolicy": "Always"},
            {"name": "i2", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}]})
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    let mut new = case(two());
    new.runtime.sandboxes.clear();
    check(new, "sandbox#0, start a#0, start b#0");
    let mut init = case(with_init());
    init.runtime.sandboxes.clear();
    check(init, "sandbox#0, start i1#0");
    check(case(two()).with(vec![running("a", 0), running("b", 0)]), "");
    let mut busy = case(two());
    busy.memory.busy = true;
    check(busy, "");
}

#[test]
fn restart_policies() {
    let one = |policy: &str, code: i32| case(with_policy(policy)).with(vec![exited("a", 0, code, 50)]);
    check(one("Always", 0), "start a#1");
    check(one("OnFailure", 1), "start a#1");
    check(one("OnFailure", 0), "stop sb");
    check(one("Never", 1), "stop sb");
    let mut gone = one("Never", 1);
    gone.runtime.sandboxes[0].ready = false;
    gone.memory.stopped.insert("sb".into());
    check(gone, "finished");
    let created = container("a", 0, State::Created);
    check(case(with_policy("Never")).with(vec![created]), "start a#1");
}

#[test]
fn crash_loops_wait() {
    let mut looping = case(with_policy("Always")).with(vec![exited("a", 1, 1, 95)]);
    looping.memory.crashes.next("a", at(80), at(90));
    let plan = looping.plan();
    let message = "back-off 10s restarting failed container=a pod=p_ns(u)";
    assert_eq!(plan.waiting["a"], Reason::new("CrashLoopBackOff", message));
    assert_eq!((plan.wake_at, plan.job), (Some(at(105)), None));
    looping.second = 105;
    check(looping, "start a#2");
}

#[test]
fn a_restart_under_way_is_no_crash_loop() {
    let mut restarting = case(with_policy("Always")).with(vec![exited("a", 0, 1, 95)]);
    let job = restarting.plan().job.expect("the first crash restarts at once");
    restarting.memory.record_start(&job.start[0], at(100));
    restarting.memory.busy = true;
    assert_eq!(restarting.words(), "");
    restarting.memory.record_started("a");
    restarting.memory.busy = false;
    check(restarting.with(vec![exited("a", 1, 1, 101)]), "a: CrashLoopBackOff");
}

#[test]
fn pulls_wait() {
    let mut pulling = case(two()).with(vec![running("b", 0)]);
    pulling.memory.record_failure("a", Reason::new("ErrImagePull", "no such host"), at(95));
    let plan = pulling.plan();
    let message = "Back-off pulling image \"i\": ErrImagePull: no such host";
    assert_eq!(plan.waiting["a"], Reason::new("ImagePullBackOff", message));
    pulling.second = 106;
    check(pulling, "start a#0");
}

/// What no pull can mend is not a pull's back-off.
#[test]
fn an_image_that_is_never_pulled_is_looked_for_again() {
    let mut missing = case(two()).with(vec![running("b", 0)]);
    let why = Reason::new("ErrImageNeverPull", "not present");
    missing.memory.record_failure("a", why.clone(), at(95));
    assert_eq!(missing.plan().waiting.get("a"), None);
    assert_eq!(missing.memory.failures["a"], why);
    missing.second = 101;
    check(missing, "start a#0");
}

#[test]
fn init_containers_run_in_order() {
    check(case(with_init()).with(vec![running("i1", 0)]), "");
    check(case(with_init()).with(vec![exited("i1", 0, 0, 5)]), "start s#0");
    check(case(with_init()).with(vec![running("s", 0), exited("i1", 0, 0, 5)]), "start i2#0");
    check(case(with_init()).with(vec![exited("i2", 0, 1, 50), running("s", 0)]), "start i2#1");
    check(case(with_init()).with(vec![exited("i2", 0, 0, 9), running("s", 0)]), "start a#0");
    let sidecar_died = vec![running("a", 0), exited("i2", 0, 0, 9), exited("s", 0, 1, 50)];
    check(case(with_init()).with(sidecar_died), "start s#1");
    let mut never = with_init();
    never["restartPolicy"] = json!("Never");
    check(case(never).with(vec![exited("i2", 0, 1, 9), running("s", 0)]), "kill s-0");
}

#[test]
fn a_sidecar_holds_the_next_until_its_startup_probe_passes() {
    let mut spec = with_init();
    spec["initContainers"][1]["startupProbe"] = json!({"exec": {"command": ["true"]}});
    let mut waiting = case(spec).with(vec![running("s", 0), exited("i1", 0, 0, 5)]);
    assert_eq!(waiting.words(), "");
    waiting.probes.insert("s-0".into(), Probed { startup: Some(Outcome::Success), ..Probed::default() });
    check(waiting, "start i2#0");
}

#[test]
fn probes_kill() {
    let check = |probed: Probed, policy: &str, expected: Option<&str>| {
        let mut case = case(with_policy(policy)).with(vec![running("a", 0)]);
        case.probes.insert("a-0".into(), probed);
        assert_eq!(case.plan().kills.first().map(|k| k.message.as_str()), expected);
    };
    let failed = Some(Outcome::Failure);
    let will = "Container a failed liveness probe, will be restarted";
    check(Probed { liveness: failed, ..Probed::default() }, "Always", Some(will));
    check(Probed { liveness: failed, ..Probed::default() }, "Never", Some("Container a failed liveness probe"));
    let startup = "Container a failed startup probe, will be restarted";
    check(Probed { startup: failed, ..Probed::default() }, "Always", Some(startup));
    check(Probed { readiness: failed, ..Probed::default() }, "Always", None);
}

#[test]
fn a_changed_definition_restarts_only_that_container() {
    let mut changed = running("a", 0);
    changed.hash = "other".into();
    check(case(two()).with(vec![changed, running("b", 0)]), "kill a-0");
}

/// A pod whose sandbox has lost its process at second 100, while `containers` were as they are.
fn lost(spec: Value, containers: Vec<Container>) -> Case {
    let mut lost = case(spec).with(containers);
    lost.runtime.sandboxes[0].ready = false;
    lost
}

impl Case {
    /// What the worker does with a plan for a lost sandbox; every container killed ends with `code`.
    fn carry_out(&mut self, code: i32) {
        let plan = self.plan();
        self.memory.record_displaced(plan.displaced, &self.runtime);
        for container in self.runtime.containers.iter_mut().filter(|c| c.may_run()) {
            *container = exited(&container.name, container.restart_count, code, self.second);
        }
        self.memory.stopped.insert("sb".into());
    }
}

#[test]
fn a_lost_sandbox_is_replaced_once_its_containers_are_gone() {
    let mut lost = lost(two(), vec![running("a", 0), exited("b", 0, 137, 50)]);
    assert_eq!(lost.words(), "kill a-0");
    assert_eq!(lost.plan().lost_sandbox.as_deref(), Some("sb"));
    lost.memory.killing.insert("a-0".into());
    assert_eq!(lost.words(), "", "a kill under way is not repeated");
    lost.memory.killing.clear();
    lost.runtime.containers[0] = exited("a", 0, 137, 60);
    assert_eq!(lost.words(), "stop sb", "its network goes before the next one's comes");
    lost.memory.stopped.insert("sb".into());
    check(lost, "sandbox#1, start a#1, start b#1");
}

#[test]
fn a_pod_that_is_done_gets_no_other_sandbox() {
    let check = |policy: &str, container: Container, expected: &str| {
        let mut lost = lost(with_policy(policy), vec![container]);
        lost.memory.stopped.insert("sb".into());
        let plan = lost.plan();
        assert_eq!((lost.words().as_str(), plan.lost_sandbox), (expected, None));
    };
    check("Never", running("a", 0), "kill a-0");
    check("Never", exited("a", 0, 137, 60), "finished");
    check("OnFailure", exited("a", 0, 0, 60), "finished");
}

#[test]
fn what_a_lost_sandbox_takes_along_has_not_crashed() {
    let mut displaced = lost(with_policy("Always"), vec![running("a", 1), exited("a", 0, 1, 80)]);
    displaced.memory.crashes.next("a", at(80), at(82));
    displaced.carry_out(143);
    check(displaced, "sandbox#1, start a#2, remove a-0");
    let mut crashed = lost(with_policy("Always"), vec![exited("a", 1, 1, 95)]);
    crashed.memory.crashes.next("a", at(80), at(82));
    crashed.carry_out(143);
    check(crashed, "sandbox#1, a: CrashLoopBackOff");
}

#[test]
fn what_a_lost_sandbox_takes_along_has_not_succeeded() {
    let mut tidy = lost(with_policy("OnFailure"), vec![running("a", 0)]);
    tidy.carry_out(0);
    check(tidy, "sandbox#1, start a#1");
}

#[test]
fn a_new_sandbox_does_not_repeat_what_succeeded_in_the_old() {
    let mut spec = two();
    spec["restartPolicy"] = json!("OnFailure");
    let mut renewed = case(spec).with(vec![running("a", 1), exited("b", 0, 0, 50)]);
    renewed.runtime.sandboxes = vec![sandbox("new", true), sandbox("sb", false)];
    renewed.runtime.containers[0].sandbox_id = "new".into();
    check(renewed, "");
}

#[test]
fn termination_stops_sidecars_last() {
    let mut ending = case(with_init()).with(vec![running("a", 0), running("s", 0)]);
    ending.stage = Stage::Terminate { grace_seconds: 7, failed: None };
    assert_eq!(ending.words(), "kill a-0");
    assert_eq!(ending.plan().kills[0].grace_seconds, 7);
    ending.runtime.containers[0] = exited("a", 0, 0, 60);
    assert_eq!(ending.words(), "kill s-0");
    ending.runtime.containers[1] = exited("s", 0, 0, 60);
    assert_eq!(ending.words(), "stop sb");
    ending.runtime.sandboxes[0].ready = false;
    assert_eq!(ending.words(), "stop sb", "it may have lost its process and nothing else");
    ending.memory.stopped.insert("sb".into());
    check(ending, "finished");
}

#[test]
fn only_the_newest_dead_instance_is_kept() {
    let old = vec![running("a", 2), exited("a", 1, 1, 50), exited("a", 0, 1, 40), running("b", 0)];
    check(case(two()).with(old), "remove a-0");
}

#[test]
fn the_deadline_wakes_the_worker() {
    let mut spec = with_policy("Always");
    spec["activeDeadlineSeconds"] = json!(30);
    let mut case = case(spec).with(vec![running("a", 0)]);
    case.pod.status = Some(serde_json::from_value(json!({"startTime": at(90).to_string()})).expect("a status"));
    assert_eq!(case.plan().wake_at, Some(at(120)));
}
