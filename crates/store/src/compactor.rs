//! Automatic compaction: keeps the history of a time, or of a number of revisions.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::auth::Asker;
use crate::config::Compaction;
use crate::error::Refusal;
use crate::pb::etcdserverpb::CompactionRequest;
use crate::pb::kvraft::command::Op;
use crate::raft_node::Handle;
use crate::shared::Shared;

/// How often a limit on revisions is looked at; etcd's interval.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// Samples taken per retention period, as in etcd, and at most one an hour's tenth.
const SAMPLES: u32 = 10;
const MAX_SAMPLE_INTERVAL: Duration = Duration::from_secs(360);

/// Runs until dropped.
pub async fn run(mode: Compaction, shared: &Shared, node: &Handle) {
    match mode {
        Compaction::Off => std::future::pending().await,
        Compaction::Revisions(keep) => {
            let mut ticks = interval(REVISION_INTERVAL);
            loop {
                ticks.tick().await;
                let revision = shared.state.read().kv.revision();
                compact(revision - keep, shared, node).await;
            }
        }
        Compaction::Periodic(keep) => periodic(keep, shared, node).await,
    }
}

async fn periodic(keep: Duration, shared: &Shared, node: &Handle) {
    let every = (keep / SAMPLES).min(MAX_SAMPLE_INTERVAL).max(Duration::from_millis(1));
    let mut ticks = interval(every);
    let mut samples: VecDeque<(Instant, i64)> = VecDeque::new();
    loop {
        let now = ticks.tick().await;
        let mut due = None;
        while samples.front().is_some_and(|(taken, _)| now.duration_since(*taken) >= keep) {
            due = samples.pop_front().map(|(_, revision)| revision);
        }
        if let Some(revision) = due {
            compact(revision, shared, node).await;
        }
        samples.push_back((now, shared.state.read().kv.revision()));
    }
}

async fn compact(revision: i64, shared: &Shared, node: &Handle) {
    let leads = shared.status.leader() == shared.member_id;
    if !leads || revision <= shared.state.read().kv.compacted() {
        return;
    }
    let request = CompactionRequest { revision, physical: false };
    match node.propose(Asker::Member.sign(Op::Compaction(request))).await {
        Ok(_) => tracing::info!(revision, "compacted automatically"),
        Err(Refusal::Compacted) => {}
        Err(error) => tracing::warn!(revision, %error, "automatic compaction failed"),
    }
}
