//! Watches that are behind, ahead, or at a member that is.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use history::{At, Request};
use tokio::time::sleep;

use super::Scene;
use crate::links::Cuts;

/// More than the members keep for one who lags.
const MANY: usize = 6_000;
/// After so long without a word, members take a connection for broken.
const GIVEN_UP: Duration = Duration::from_secs(12);

/// Watches from the beginning catch up while writers go on: the moment in which one has caught up is where etcd lost
/// events.
pub fn far_behind<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        scene.write(0, 1_500).await?;
        for n in 0..9 {
            scene.watch(n % 3, 1).await;
            scene.write(n % 3, 60).await?;
        }
        Ok(())
    }
    .boxed_local()
}

/// A watch that is taken up again at a member that has not heard of the newest revisions yet.
pub fn lagging_member<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        let leader = cluster.await_leader().await?;
        let behind = (leader + 1) % 3;
        let others: Vec<usize> = (0..3).filter(|n| *n != behind).collect();
        let known = scene.write(leader, 100).await?;
        cluster.cut(&Cuts::default().apart(&[behind], &others))?;
        let newest = scene.write(leader, 100).await?;
        for start in [known - 50, known + 1, newest - 10, newest + 1, newest + 20] {
            scene.watch(behind, start).await;
        }
        // Time for wrong events and progress notifications: those come twice a second.
        sleep(Duration::from_secs(2)).await;
        scene.write(leader, 10).await?;
        cluster.cut(&Cuts::default())?;
        scene.read(behind, At::Latest).await?;
        scene.write(behind, 100).await.map(drop)
    }
    .boxed_local()
}

/// A watch may begin where the store has not come to yet; what is before does not concern it.
pub fn future_revision<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let newest = scene.write(0, 20).await?;
        for ahead in [1, 2, 30, 50] {
            scene.watch(0, newest + ahead).await;
        }
        sleep(Duration::from_secs(1)).await;
        scene.write(0, 40).await?;
        // The same after a crash.
        scene.cluster.members[0].kill()?;
        scene.cluster.launch(0)?;
        scene.read(0, At::Latest).await?;
        scene.write(0, 100).await.map(drop)
    }
    .boxed_local()
}

/// A member is cut off until it is so far behind that it is sent a snapshot, in which the revisions between are
/// compacted.
/// Its watchers must be told of everything, or that they cannot be.
pub fn snapshot_under_a_watch<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        for compacts in [false, true] {
            let leader = cluster.await_leader().await?;
            let behind = (leader + 1) % 3;
            let known = scene.write(leader, 100).await?;
            scene.watch(behind, known - 10).await;
            scene.read(behind, At::Latest).await?;
            let others: Vec<usize> = (0..3).filter(|n| *n != behind).collect();
            cluster.cut(&Cuts::default().apart(&[behind], &others))?;
            let newest = scene.write(leader, MANY).await?;
            if compacts {
                scene.surely(leader, || Request::Compact { revision: newest - 100 }).await?;
            }
            // Until the connections are given up, and with them what is on its way.
            sleep(GIVEN_UP).await;
            cluster.cut(&Cuts::default())?;
            scene.read(behind, At::Latest).await?;
            scene.write(behind, 50).await?;
        }
        anyhow::ensure!(
            cluster.members.iter().any(|m| m.words().contains("installing a snapshot")),
            "no member was sent a snapshot"
        );
        Ok(())
    }
    .boxed_local()
}
