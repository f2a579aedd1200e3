//! Disks that hang.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use history::At;
use tokio::time::{sleep, timeout};

use super::Scene;
use crate::cluster::CALM;

/// A leader whose disk writes nothing any more commits with the others for a while, and then lets one of them lead. It says
/// what is wrong, and has everything once its disk is back.
pub fn hung_leader<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        let old = cluster.await_leader().await?;
        let other = (old + 1) % 3;
        scene.write(other, 100).await?;
        cluster.members[old].disk.freeze()?;
        let deposed = async {
            loop {
                // While it is handed over, writes may be refused.
                let _ = scene.write(other, 100).await;
                if cluster.leader().await.is_some_and(|leader| leader != old) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(CALM, deposed).await.context("a leader whose disk hangs goes on leading")?;
        let written = scene.write(other, 100).await?;
        let said = async {
            while !cluster.members[old].words().contains("the disk hangs") {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(CALM, said).await.context("it is not said that the disk hangs")?;
        cluster.members[old].disk.thaw()?;
        let read = scene.read(old, At::Latest).await?;
        ensure!(read >= written, "the revision went back from {written} to {read}");
        scene.write(old, 100).await.map(drop)
    }
    .boxed_local()
}
