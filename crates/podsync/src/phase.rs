//! The pod's phase from its container statuses.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use crate::pod::{self, RestartPolicy};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

fn exit_code(state: Option<&ContainerState>) -> Option<i32> {
    Some(state?.terminated.as_ref()?.exit_code)
}

/// (an init container is still to end well, one has failed for good)
fn init(pod: &Pod, statuses: &[ContainerStatus]) -> (bool, bool) {
    let (mut pending, mut failed) = (false, false);
    for spec in pod::init_containers(pod) {
        let status = find(statuses, &spec.name);
        if pod::is_sidecar(spec) {
            pending |= status.is_none_or(|s| s.started != Some(true) && exit_code(s.state.as_ref()).is_none());
            continue;
        }
        let code = status.and_then(|s| exit_code(s.state.as_ref()).or_else(|| exit_code(s.last_state.as_ref())));
        match code {
            Some(0) => {}
            Some(_) if pod::restart_policy(pod) == RestartPolicy::Never => failed = true,
            _ => pending = true,
        }
    }
    (pending, failed)
}

pub fn phase(pod: &Pod, init_statuses: &[ContainerStatus], statuses: &[ContainerStatus]) -> Phase {
    let (pending_init, failed_init) = init(pod, init_statuses);
    let policy = pod::restart_policy(pod);
    let (mut running, mut waiting, mut stopped, mut succeeded, mut unknown) = (0, 0, 0, 0, 0);
    for spec in pod::containers(pod) {
        let Some(status) = find(statuses, &spec.name) else {
            unknown += 1;
            continue;
        };
        let state = status.state.as_ref();
        if state.is_some_and(|s| s.running.is_some()) {
            running += 1;
        } else if let Some(code) = exit_code(state) {
            stopped += 1;
            succeeded += i32::from(code == 0);
        } else if exit_code(status.last_state.as_ref()).is_some() {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    let began = running + stopped > 0;
    match () {
        () if failed_init => Phase::Failed,
        () if pending_init && !began => Phase::Pending,
        () if waiting > 0 || unknown > 0 => Phase::Pending,
        () if running > 0 => Phase::Running,
        () if stopped == 0 || policy == RestartPolicy::Always => {
            if stopped > 0 {
                Phase::Running
            } else {
                Phase::Pending
            }
        }
        () if stopped == succeeded => Phase::Succeeded,
        () if policy == RestartPolicy::Never => Phase::Failed,
        () => Phase::Running,
    }
}
