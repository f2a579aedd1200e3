//! What was acknowledged stays, and the revision never goes back.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use history::{At, Request};
use tokio::time::sleep;

use super::Scene;

const ROUNDS: u64 = 8;

/// etcd lost its newest revision when it crashed in a compaction whose last kept revision was the newest: what was
/// there was found by its keys, and the compaction had removed them.
pub fn crash_in_compaction<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        for round in 0..ROUNDS {
            scene.write(0, 150).await?;
            // The newest revision is a deletion's: nothing that lives shows it.
            let gone = history::Delete { keys: history::Keys::Prefix("k/".into()), prev_kv: false };
            let (revision, _) = scene.surely(0, || Request::Delete(gone.clone())).await?;
            let kill = async {
                sleep(Duration::from_millis(round * 2)).await;
                scene.cluster.members[0].kill()
            };
            tokio::join!(scene.ask(0, Request::Compact { revision }), kill).1?;
            scene.cluster.launch(0)?;
            let found = scene.read(0, At::Latest).await?;
            anyhow::ensure!(found >= revision, "the revision went back from {revision} to {found}");
        }
        Ok(())
    }
    .boxed_local()
}

/// etcd acknowledged a lone member's writes before they were durable.
pub fn lone_member<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        for round in 0..ROUNDS {
            let kill = async {
                sleep(Duration::from_millis(20 + 30 * round)).await;
                scene.cluster.members[0].kill()
            };
            tokio::join!(scene.write(0, 1_000), kill).1?;
            scene.cluster.launch(0)?;
            scene.read(0, At::Latest).await?;
        }
        Ok(())
    }
    .boxed_local()
}
