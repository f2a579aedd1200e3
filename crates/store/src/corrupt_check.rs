//! Whether the other members have what this one has: asked before it serves, if its flags want it.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::timeout;

use crate::pb::etcdserverpb::HashKvResponse;
use crate::service::{self, Context};

/// Who does not answer in time is not compared with.
const TIMEOUT: Duration = Duration::from_secs(7);

/// Members that are away, behind, or compacted elsewhere cannot be compared with; that is said.
pub async fn run(context: &Context) -> Result<()> {
    let shared = &context.shared;
    let own = service::hash(shared, 0).await?;
    let others: Vec<u64> = shared.state.read().members.keys().copied().filter(|id| *id != shared.member_id).collect();
    let mut differ = Vec::new();
    for id in others {
        let peer = format!("{id:x}");
        match ask(context, id, own.hash_revision).await {
            Ok(theirs) if theirs.compact_revision != own.compact_revision => {
                tracing::warn!(peer, "cannot compare data with a peer: it has compacted elsewhere");
            }
            Ok(theirs) if theirs.hash != own.hash => differ.push(peer),
            Ok(_) => {}
            Err(why) => tracing::warn!(peer, why, "cannot compare data with a peer"),
        }
    }
    let (differ, revision) = (differ.join(", "), own.hash_revision);
    ensure!(
        differ.is_empty(),
        "found data inconsistency with peers: at revision {revision} this member has other data than {differ}; remove \
         whichever is wrong, and add it again with an empty data directory"
    );
    tracing::info!(revision, "the peers have the same data");
    Ok(())
}

async fn ask(context: &Context, id: u64, revision: i64) -> Result<HashKvResponse, String> {
    let mut peer = context.peers.client(id).ok_or("it is not known")?;
    let answer = timeout(TIMEOUT, peer.hash(revision)).await.map_err(|_| "it does not answer")?;
    answer.map_err(|status| status.message().to_owned())
}
