//! Wakes pod workers: on the runtime's events at once, and by a slow relist for what they missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cri::events::{self, Event};
use cri::v1::{
    ContainerState, ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxState,
    PodSandboxStatusRequest,
};
use daemon::CancellationToken;
use futures::StreamExt;

use crate::context::Context;
use crate::pods::worker::uid_of;
use crate::pods::{Pods, housekeeping};
use crate::server::rotate;

const RELIST: Duration = Duration::from_secs(30);
const RECONNECT: Duration = Duration::from_secs(1);
/// The event comes from the shim; the runtime's CRI side takes note a moment later.
const SETTLE_FIRST: Duration = Duration::from_millis(2);
const SETTLE_TRIES: u32 = 10;

pub async fn run(ctx: Arc<Context>, pods: Arc<Pods>, token: CancellationToken) {
    tokio::select! {
        () = token.cancelled() => {}
        () = follow_events(ctx.clone(), pods.clone()) => {}
        () = relist(ctx, pods) => {}
    }
}

async fn follow_events(ctx: Arc<Context>, pods: Arc<Pods>) {
    loop {
        match events::subscribe(&ctx.cri).await {
            Ok(stream) => {
                // Whatever happened before the subscription is found by looking.
                pods.wake_all();
                let mut stream = std::pin::pin!(stream);
                while let Some(event) = stream.next().await {
                    tokio::spawn(settle(ctx.clone(), pods.clone(), event));
                }
                tracing::warn!("the runtime's event stream ended");
            }
            Err(error) => tracing::debug!(%error, "cannot follow the runtime's events"),
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Waits until CRI agrees that the container has ended, then wakes its pod.
async fn settle(ctx: Arc<Context>, pods: Arc<Pods>, event: Event) {
    let (Event::Exited { id } | Event::OutOfMemory { id }) = &event;
    let mut pause = SETTLE_FIRST;
    for _ in 0..SETTLE_TRIES {
        match ended(&ctx, id).await {
            Some((uid, true)) => return pods.wake(&uid),
            Some((uid, false)) if matches!(event, Event::OutOfMemory { .. }) => return pods.wake(&uid),
            Some(_) => tokio::time::sleep(pause).await,
            None => return,
        }
        pause *= 2;
    }
    pods.wake_all();
}

/// The pod's uid and whether CRI reports the container or sandbox as ended.
async fn ended(ctx: &Context, id: &str) -> Option<(String, bool)> {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    if let Ok(answer) = ctx.cri.container_status(request).await {
        let status = answer.status?;
        return Some((uid_of(&status.labels)?, status.state() != ContainerState::ContainerRunning));
    }
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
    let status = ctx.cri.pod_sandbox_status(request).await.ok()?.status?;
    Some((uid_of(&status.labels)?, status.state() != PodSandboxState::SandboxReady))
}

async fn relist(ctx: Arc<Context>, pods: Arc<Pods>) {
    let mut last = Snapshot::new();
    loop {
        tokio::time::sleep(RELIST).await;
        let Ok(now) = snapshot(&ctx).await else { continue };
        for (uid, state) in &now {
            if last.get(uid) != Some(state) {
                pods.wake(uid);
            }
        }
        for uid in last.keys().filter(|uid| !now.contains_key(*uid)) {
            pods.wake(uid);
        }
        housekeeping::sweep(&ctx, &pods, now.keys()).await;
        rotate::sweep(&ctx, &pods).await;
        last = now;
    }
}

/// Per pod: the ids and states of its sandboxes and containers.
type Snapshot = BTreeMap<String, Vec<(String, i32)>>;

async fn snapshot(ctx: &Context) -> cri::Result<Snapshot> {
    let mut all = Snapshot::new();
    for sandbox in ctx.cri.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items {
        if let Some(uid) = uid_of(&sandbox.labels) {
            all.entry(uid).or_default().push((sandbox.id, sandbox.state));
        }
    }
    for container in ctx.cri.list_containers(ListContainersRequest::default()).await?.containers {
        if let Some(uid) = uid_of(&container.labels) {
            all.entry(uid).or_default().push((container.id, container.state));
        }
    }
    all.values_mut().for_each(|list| list.sort());
    Ok(all)
}
