//! What is large, or much, and comes at once.

use anyhow::{Context, Result, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use history::At;

use super::Scene;

/// Of a value.
const LARGE: usize = 256 << 10;
/// Together more than a member is sent at once.
const MANY_LARGE: usize = 320;
/// More than the members keep for one who lags.
const MANY: usize = 2_000;

/// A member comes back that has missed many megabytes, while as many are written. Sent all of it in one piece, or asked to
/// take it in one, it would cost the leader its place.
pub fn lags_by_bytes<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        let leader = cluster.await_leader().await?;
        let behind = (leader + 1) % 3;
        let term = async || cluster.status(leader).await.map(|status| status.raft_term()).context("no answer");
        let before = term().await?;
        // What it lacks is in the log.
        cluster.members[behind].pause()?;
        scene.write_large(leader, MANY_LARGE, LARGE).await?;
        cluster.members[behind].go_on()?;
        scene.write_large(leader, MANY_LARGE / 4, LARGE).await?;
        scene.read(behind, At::Latest).await?;
        // It is not.
        cluster.members[behind].kill()?;
        scene.write_large(leader, MANY_LARGE / 4, LARGE).await?;
        scene.write(leader, MANY).await?;
        cluster.launch(behind)?;
        scene.write_large(leader, MANY_LARGE / 4, LARGE).await?;
        scene.read(behind, At::Latest).await?;
        let after = term().await?;
        ensure!(after == before, "the leader of term {before} lost its place: term {after}");
        Ok(())
    }
    .boxed_local()
}
