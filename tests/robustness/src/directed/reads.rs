//! Linearizable reads of a member that does not know yet that it leads no more.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use history::{At, Keys, Range, Request};
use tokio::time::sleep;

use super::Scene;

const ROUNDS: usize = 2;
const READERS: usize = 20;

/// The leader sleeps through an election and is asked, while it sleeps, what it will answer first.
pub fn stale_after_a_pause<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        for _ in 0..ROUNDS {
            let old = cluster.await_leader().await?;
            scene.write(old, 50).await?;
            // Connections that are there, so that the questions reach it.
            let mut clients = Vec::new();
            for _ in 0..READERS {
                let mut client = cluster.patient_client(old).await;
                client.status().await?;
                clients.push(client);
            }
            cluster.members[old].pause()?;
            let other = (old + 1) % cluster.size();
            let reads = clients.into_iter().map(|mut client| {
                let scene = &*scene;
                async move {
                    // While it sleeps, but after the others have moved on.
                    sleep(Duration::from_secs(4)).await;
                    let read = Request::Range(Range { keys: Keys::all(), limit: 0 }, At::Latest);
                    scene.recorder.run(300, &mut client, read).await
                }
            });
            let meanwhile = async {
                scene.surely(other, || scene.put("k/moved-on")).await?;
                sleep(Duration::from_secs(5)).await;
                cluster.members[old].go_on()
            };
            let (read, moved) = tokio::join!(futures::future::join_all(reads), meanwhile);
            moved?;
            ensure!(read.len() == READERS, "every reader ends");
            ensure!(cluster.await_leader().await? != old, "nobody was elected while the leader slept");
        }
        Ok(())
    }
    .boxed_local()
}
