//! The conditions the kubelet owns, in upstream's words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::phase::Phase;
use crate::pod;

struct Verdict {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Verdict {
        Verdict { status: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict { status: false, reason, message }
    }
}

/// Whether the pod has a working sandbox with an address.
pub fn all(
    pod: &Pod,
    phase: Phase,
    sandbox_ready: bool,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let old = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let containers = containers_ready(pod, phase, init, main);
    let ready = ready(old, pod, phase, &containers);
    let sandbox = if sandbox_ready { Verdict::yes() } else { Verdict::no("", String::new()) };
    let generation = pod.metadata.generation;
    let mut conditions = vec![
        condition(old, "PodReadyToStartContainers", sandbox, generation, now),
        condition(old, "Initialized", initialized(pod, phase, init), generation, now),
        condition(old, "Ready", ready, generation, now),
        condition(old, "ContainersReady", containers, generation, now),
    ];
    let scheduled = old.iter().find(|c| c.type_ == "PodScheduled").cloned();
    conditions.push(scheduled.unwrap_or_else(|| condition(old, "PodScheduled", Verdict::yes(), generation, now)));
    conditions
}

fn condition(
    old: &[PodCondition],
    type_: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(verdict.reason.to_owned()).filter(|r| !r.is_empty()),
        message: Some(verdict.message).filter(|m| !m.is_empty()),
        last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        observed_generation: generation,
        ..PodCondition::default()
    }
}

/// Go prints string slices without commas.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

fn initialized(pod: &Pod, phase: Phase, init: &[ContainerStatus]) -> Verdict {
    let incomplete: Vec<&str> = pod::init_containers(pod)
        .iter()
        .filter(|spec| {
            let status = find(init, &spec.name);
            let done = |s: &ContainerStatus| if pod::is_sidecar(spec) { s.started == Some(true) } else { s.ready };
            !status.is_some_and(done)
        })
        .map(|spec| spec.name.as_str())
        .collect();
    if phase == Phase::Succeeded && incomplete.is_empty() {
        return Verdict { status: true, reason: "PodCompleted", message: String::new() };
    }
    if incomplete.is_empty() || phase == Phase::Running || phase == Phase::Succeeded {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotInitialized", format!("containers with incomplete status: {}", list(&incomplete)))
}

fn containers_ready(pod: &Pod, phase: Phase, init: &[ContainerStatus], main: &[ContainerStatus]) -> Verdict {
    match phase {
        Phase::Succeeded => return Verdict::no("PodCompleted", String::new()),
        Phase::Failed => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c)).map(|c| (c, init));
    let mains = pod::containers(pod).iter().map(|c| (c, main));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for (spec, statuses) in sidecars.chain(mains) {
        match find(statuses, &spec.name) {
            None => unknown.push(spec.name.as_str()),
            Some(status) if !status.ready => unready.push(spec.name.as_str()),
            Some(_) => {}
        }
    }
    let parts: Vec<String> = [("unknown", &unknown), ("unready", &unready)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("containers with {kind} status: {}", list(names)))
        .collect();
    if parts.is_empty() { Verdict::yes() } else { Verdict::no("ContainersNotReady", parts.join(", ")) }
}

fn ready(old: &[PodCondition], pod: &Pod, phase: Phase, containers: &Verdict) -> Verdict {
    if !containers.status || phase.is_terminal() {
        return Verdict { status: false, reason: containers.reason, message: containers.message.clone() };
    }
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_deref()).unwrap_or_default();
    let missing: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let type_ = &gate.condition_type;
            match old.iter().find(|c| &c.type_ == type_) {
                None => Some(format!("corresponding condition of pod readiness gate {type_:?} does not exist.")),
                Some(c) if c.status != "True" => {
                    Some(format!("the status of pod readiness gate {type_:?} is not \"True\", but {}", c.status))
                }
                Some(_) => None,
            }
        })
        .collect();
    if missing.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", missing.join(", ")) }
}
