//! Reads one pod's state back from the runtime.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cri::v1::{
    ContainerFilter, ContainerState, ContainerStatus, ContainerStatusRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState, PodSandboxStatusRequest,
};
use jiff::Timestamp;
use podsync::{Container, Exit, PodRuntime, Sandbox, State, labels};

use crate::container::config::termination_file;
use crate::context::Context;
use crate::server::logs::tail;

/// Upstream's bounds on last words.
const MAX_MESSAGE_BYTES: usize = 4096;
const MAX_LOG_MESSAGE_BYTES: usize = 2048;
const MAX_LOG_MESSAGE_LINES: usize = 80;

/// Remembers what can no longer change, to ask for less.
#[derive(Default)]
pub struct Observer {
    exited: BTreeMap<String, Container>,
    addresses: BTreeMap<String, Vec<String>>,
}

pub fn timestamp(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok()).flatten()
}

fn selector(uid: &str) -> HashMap<String, String> {
    HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())])
}

impl Observer {
    pub async fn observe(&mut self, ctx: &Context, uid: &str) -> cri::Result<PodRuntime> {
        let filter = PodSandboxFilter { label_selector: selector(uid), ..PodSandboxFilter::default() };
        let sandboxes = ctx.cri.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) });
        let filter = ContainerFilter { label_selector: selector(uid), ..ContainerFilter::default() };
        let containers = ctx.cri.list_containers(ListContainersRequest { filter: Some(filter) });
        let (sandboxes, containers) = tokio::try_join!(sandboxes, containers)?;
        let mut runtime = PodRuntime::default();
        for sandbox in sandboxes.items {
            runtime.sandboxes.extend(self.sandbox(ctx, sandbox).await?);
        }
        for container in &containers.containers {
            runtime.containers.extend(self.container(ctx, uid, &container.id, &container.pod_sandbox_id).await?);
        }
        let alive: Vec<&String> = containers.containers.iter().map(|c| &c.id).collect();
        self.exited.retain(|id, _| alive.contains(&id));
        runtime.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.created_at));
        runtime.containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.restart_count)));
        Ok(runtime)
    }

    async fn sandbox(&mut self, ctx: &Context, found: PodSandbox) -> cri::Result<Option<Sandbox>> {
        let ready = found.state() == PodSandboxState::SandboxReady;
        let ips = match self.addresses.get(&found.id) {
            Some(known) => known.clone(),
            None if ready => {
                let Some(ips) = addresses(ctx, &found.id).await? else { return Ok(None) };
                self.addresses.insert(found.id.clone(), ips.clone());
                ips
            }
            None => Vec::new(),
        };
        Ok(Some(Sandbox {
            attempt: found.metadata.map_or(0, |m| m.attempt),
            created_at: timestamp(found.created_at).unwrap_or_default(),
            id: found.id,
            ready,
            ips,
        }))
    }

    async fn container(&mut self, ctx: &Context, uid: &str, id: &str, sandbox: &str) -> cri::Result<Option<Container>> {
        if let Some(known) = self.exited.get(id) {
            return Ok(Some(known.clone()));
        }
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = match ctx.cri.container_status(request).await {
            Ok(answer) => answer.status,
            // Gone between the list and now.
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let container = status.map(|status| convert(ctx, uid, sandbox, status));
        if let Some(container) = container.as_ref().filter(|c| c.exit().is_some()) {
            self.exited.insert(id.to_owned(), container.clone());
        }
        Ok(container)
    }
}

/// `None` when the sandbox has just been removed.
async fn addresses(ctx: &Context, id: &str) -> cri::Result<Option<Vec<String>>> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
    let network = match ctx.cri.pod_sandbox_status(request).await {
        Ok(answer) => answer.status.and_then(|s| s.network),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let network = network.unwrap_or_default();
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|a| a.ip));
    Ok(Some(all.filter(|ip| !ip.is_empty()).collect()))
}

fn convert(ctx: &Context, uid: &str, sandbox: &str, status: ContainerStatus) -> Container {
    let note = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    let restart_count = note(labels::RESTART_COUNT).parse().unwrap_or(metadata.attempt);
    let name = status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or(metadata.name);
    let state = match status.state() {
        ContainerState::ContainerCreated => State::Created,
        ContainerState::ContainerUnknown => State::Unknown,
        ContainerState::ContainerRunning => {
            State::Running { started_at: timestamp(status.started_at).unwrap_or_default() }
        }
        ContainerState::ContainerExited => State::Exited(Exit {
            code: status.exit_code,
            reason: status.reason.clone(),
            message: last_words(&ctx.settings.pod_dir(uid), &name, restart_count, &status),
            started_at: timestamp(status.started_at),
            finished_at: timestamp(status.finished_at),
        }),
    };
    Container {
        hash: note(labels::CONTAINER_HASH),
        created_at: timestamp(status.created_at).unwrap_or_default(),
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_id: status.image_ref,
        id: status.id,
        sandbox_id: sandbox.to_owned(),
        name,
        restart_count,
        state,
    }
}

/// The termination message: from its file, or from the log's end if the container failed silently.
fn last_words(pod_dir: &Path, name: &str, restart_count: u32, status: &ContainerStatus) -> String {
    let written = std::fs::read(termination_file(pod_dir, name, restart_count)).unwrap_or_default();
    let policy = status.annotations.get(labels::TERMINATION_MESSAGE_POLICY).map(String::as_str);
    if !written.is_empty() {
        let kept = &written[..written.len().min(MAX_MESSAGE_BYTES)];
        return String::from_utf8_lossy(kept).into_owned();
    }
    let fall_back = policy == Some("FallbackToLogsOnError") && status.exit_code != 0;
    if fall_back && !status.log_path.is_empty() {
        return tail(Path::new(&status.log_path), MAX_LOG_MESSAGE_LINES, MAX_LOG_MESSAGE_BYTES);
    }
    status.message.clone()
}
