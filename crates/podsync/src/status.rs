//! The status the kubelet reports for a pod.

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions;
use crate::phase::{Phase, phase};
use crate::plan::{Input, Plan, Reason, Stage, is_started};
use crate::pod;
use crate::probe::Outcome;
use crate::qos;
use crate::runtime::{Container, Exit, State};

/// containerd's ids, as every client parses them.
const ID_PREFIX: &str = "containerd://";

/// The node's addresses, IPv4 or the preferred family first.
pub type HostIps<'a> = &'a [String];

pub fn status(input: &Input, plan: &Plan, host_ips: HostIps) -> PodStatus {
    let pod = input.pod;
    let old = pod.status.clone().unwrap_or_default();
    // What a pod that has ended left here may be gone; its report stays.
    if matches!(old.phase.as_deref(), Some("Failed" | "Succeeded")) && input.runtime.is_empty() {
        return PodStatus { observed_generation: pod.metadata.generation, ..old };
    }
    let view = View { input, plan };
    let init = view.statuses(pod::init_containers(pod), old.init_container_statuses.as_deref());
    let main = view.statuses(pod::containers(pod), old.container_statuses.as_deref());
    let ephemeral = view.statuses(&pod::ephemeral_containers(pod), old.ephemeral_container_statuses.as_deref());
    let failed = match input.stage {
        Stage::Terminate { failed, .. } => failed.as_ref(),
        Stage::Run => None,
    };
    let phase = overall(pod, &old, failed, plan, phase(pod, &init, &main), &main);
    let ips = pod_ips(input, host_ips);
    let sandbox_ready = input.runtime.current_sandbox(pod::host_network(pod)).is_some();
    PodStatus {
        conditions: Some(conditions::all(pod, phase, sandbox_ready, &init, &main, input.now)),
        phase: Some(phase.name().into()),
        // Why it failed is said once it has.
        reason: failed.filter(|_| phase.is_terminal()).map(|f| f.reason.clone()).or(old.reason),
        message: failed.filter(|_| phase.is_terminal()).map(|f| f.message.clone()).or(old.message),
        host_ip: host_ips.first().cloned(),
        host_ips: Some(host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned().or(old.pod_ip),
        pod_ips: if ips.is_empty() { old.pod_ips } else { Some(ips.into_iter().map(|ip| PodIP { ip }).collect()) },
        start_time: old.start_time.or(Some(Time(input.now))),
        qos_class: Some(qos::class(pod).name().into()),
        observed_generation: pod.metadata.generation,
        init_container_statuses: Some(init).filter(|list| !list.is_empty()),
        container_statuses: Some(main),
        ephemeral_container_statuses: Some(ephemeral).filter(|list| !list.is_empty()),
        ..PodStatus::default()
    }
}

/// A pod that ended stays ended, and one the kubelet ends has failed.
fn overall(
    pod: &Pod,
    old: &PodStatus,
    failed: Option<&Reason>,
    plan: &Plan,
    now: Phase,
    main: &[ContainerStatus],
) -> Phase {
    let ended_well = |s: &ContainerStatus| {
        s.state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|ended| ended.exit_code == 0)
    };
    match old.phase.as_deref() {
        Some("Failed") => return Phase::Failed,
        Some("Succeeded") => return Phase::Succeeded,
        _ => {}
    }
    // Whatever runs on is reported until it has stopped.
    match failed {
        Some(_) if plan.finished || now.is_terminal() => Phase::Failed,
        // A deleted pod ends by how its containers ended, whatever its restart policy.
        None if plan.finished && pod.metadata.deletion_timestamp.is_some() && !now.is_terminal() => {
            if main.iter().all(ended_well) { Phase::Succeeded } else { Phase::Failed }
        }
        _ => now,
    }
}

fn pod_ips(input: &Input, host_ips: HostIps) -> Vec<String> {
    let host = pod::host_network(input.pod);
    match input.runtime.current_sandbox(host) {
        Some(_) if host => host_ips.to_vec(),
        Some(sandbox) => sandbox.ips.clone(),
        None => Vec::new(),
    }
}

struct View<'a> {
    input: &'a Input<'a>,
    plan: &'a Plan,
}

impl View<'_> {
    fn statuses(&self, specs: &[Spec], old: Option<&[ContainerStatus]>) -> Vec<ContainerStatus> {
        let old = old.unwrap_or_default();
        specs.iter().map(|spec| self.status(spec, old.iter().find(|s| s.name == spec.name))).collect()
    }

    fn status(&self, spec: &Spec, old: Option<&ContainerStatus>) -> ContainerStatus {
        match self.input.runtime.latest(&spec.name) {
            Some(container) => self.of_instance(spec, container, old),
            None => self.of_none(spec, old),
        }
    }

    /// The runtime knows no instance: never made, or lost.
    fn of_none(&self, spec: &Spec, old: Option<&ContainerStatus>) -> ContainerStatus {
        let ended = |s: &&ContainerStatus| s.state.as_ref().is_some_and(|state| state.terminated.is_some());
        if let Some(kept) = old.filter(ended) {
            return kept.clone();
        }
        let was_running =
            old.filter(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()) && s.container_id.is_some());
        let lost = was_running.map(|s| ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                container_id: s.container_id.clone(),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
        let ending = matches!(self.input.stage, Stage::Terminate { .. });
        let (state, last_state) = match lost {
            Some(lost) if ending => (lost, None),
            lost => (self.waiting(spec), lost.or_else(|| old.and_then(|s| s.last_state.clone()))),
        };
        ContainerStatus {
            name: spec.name.clone(),
            image: spec.image.clone().unwrap_or_default(),
            restart_count: old.map_or(0, |s| s.restart_count),
            started: Some(false),
            state: Some(state),
            last_state: Some(last_state.unwrap_or_default()),
            ..ContainerStatus::default()
        }
    }

    fn of_instance(&self, spec: &Spec, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
        let id = format!("{ID_PREFIX}{}", container.id);
        let before = |skip: &str| {
            let previous = self.input.runtime.containers.iter().filter(|c| c.name == spec.name && c.id != skip);
            previous.filter_map(|c| Some(terminated(c, c.exit()?))).next()
        };
        // What was collected meanwhile lives on in the last report.
        let launching = self.input.memory.launching.contains(&spec.name);
        let remembered = || old.and_then(|s| s.last_state.clone()).filter(|s| s.terminated.is_some());
        let (state, last_state) = match &container.state {
            State::Running { started_at } if !launching => {
                (running(*started_at), before(&container.id).or_else(remembered))
            }
            State::Exited(exit) => match self.wait_reason(spec, false) {
                Some(reason) if self.will_restart(spec, exit) => (waiting(reason), Some(terminated(container, exit))),
                _ => (terminated(container, exit), before(&container.id).or_else(remembered)),
            },
            _ => (self.waiting(spec), before(&container.id).or_else(remembered)),
        };
        ContainerStatus {
            name: spec.name.clone(),
            image: container.image.clone(),
            image_id: container.image_id.clone(),
            container_id: Some(id.clone()),
            restart_count: i32::try_from(container.restart_count).unwrap_or(i32::MAX),
            ready: self.ready(spec, container, old.filter(|s| s.container_id.as_deref() == Some(&id))),
            started: Some(self.started(spec, container, old.filter(|s| s.container_id.as_deref() == Some(&id)))),
            state: Some(state),
            last_state: Some(last_state.unwrap_or_default()),
            ..ContainerStatus::default()
        }
    }

    fn will_restart(&self, spec: &Spec, exit: &Exit) -> bool {
        let is_init = pod::init_containers(self.input.pod).iter().any(|c| c.name == spec.name);
        let policy =
            if is_init { pod::init_restart_policy(self.input.pod, spec) } else { pod::restart_policy(self.input.pod) };
        matches!(self.input.stage, Stage::Run) && policy.restarts(exit.code)
    }

    fn started(&self, spec: &Spec, container: &Container, old: Option<&ContainerStatus>) -> bool {
        let unknown = self.input.probes.get(&container.id).is_none_or(|p| p.startup.is_none());
        let before = unknown && old.is_some_and(|s| s.started == Some(true));
        container.is_running() && (before || is_started(self.input, spec, container))
    }

    /// An init container is ready when it has ended well, any other when its probe says so.
    fn ready(&self, spec: &Spec, container: &Container, old: Option<&ContainerStatus>) -> bool {
        let is_init = pod::init_containers(self.input.pod).iter().any(|c| c.name == spec.name);
        if is_init && !pod::is_sidecar(spec) {
            return container.exit().is_some_and(|exit| exit.code == 0);
        }
        if !self.started(spec, container, old) {
            return false;
        }
        if spec.readiness_probe.is_none() {
            return true;
        }
        match self.input.probes.get(&container.id).and_then(|p| p.readiness) {
            Some(outcome) => outcome == Outcome::Success,
            // Not probed since the kubelet started: what was reported last still holds.
            None => old.is_some_and(|s| s.ready),
        }
    }

    fn wait_reason(&self, spec: &Spec, or_default: bool) -> Option<Reason> {
        let known = self.plan.waiting.get(&spec.name).or_else(|| self.input.memory.failures.get(&spec.name));
        known.cloned().or_else(|| or_default.then(|| self.default_reason(spec)))
    }

    fn default_reason(&self, spec: &Spec) -> Reason {
        let inits = pod::init_containers(self.input.pod);
        let incomplete = inits.iter().any(|init| {
            let latest = self.input.runtime.latest(&init.name);
            let through = |c: &Container| {
                if pod::is_sidecar(init) { c.is_running() } else { c.exit().is_some_and(|exit| exit.code == 0) }
            };
            !latest.is_some_and(through)
        });
        let is_init = inits.iter().any(|c| c.name == spec.name);
        let first = inits.first().is_some_and(|c| c.name == spec.name);
        let waits = incomplete && (!is_init || !first);
        Reason::new(if waits { "PodInitializing" } else { "ContainerCreating" }, "")
    }

    fn waiting(&self, spec: &Spec) -> ContainerState {
        waiting(self.wait_reason(spec, true).unwrap_or_else(|| self.default_reason(spec)))
    }
}

fn running(started_at: jiff::Timestamp) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(Time(started_at)) }),
        ..ContainerState::default()
    }
}

fn waiting(reason: Reason) -> ContainerState {
    let message = Some(reason.message).filter(|m| !m.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.reason), message }),
        ..ContainerState::default()
    }
}

fn terminated(container: &Container, exit: &Exit) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{ID_PREFIX}{}", container.id)),
            exit_code: exit.code,
            reason: Some(exit.reason.clone()).filter(|r| !r.is_empty()),
            message: Some(exit.message.clone()).filter(|m| !m.is_empty()),
            started_at: exit.started_at.map(Time),
            finished_at: exit.finished_at.map(Time),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
