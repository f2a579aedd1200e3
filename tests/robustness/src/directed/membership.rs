//! Members that are not who they were.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::Scene;

/// A member that has lost its data has forgotten what it promised. As the same member it must not come back: its vote
/// could elect one who lacks what was acknowledged.
pub fn wiped<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        let n = (cluster.await_leader().await? + 1) % 3;
        scene.write(n, 100).await?;
        for state in ["new", "existing"] {
            cluster.members[n].kill()?;
            cluster.members[n].wipe()?;
            cluster.launch_as(n, state)?;
            let ended = cluster.members[n].await_end(Duration::from_secs(10)).await?;
            ensure!(
                ended.is_some_and(|status| !status.success()),
                "a member whose data is gone comes back as if nothing were ({state}): {ended:?}"
            );
        }
        ensure!(cluster.members[n].words().contains("has already been bootstrapped"), "it does not say why");
        cluster.replace(n).await
    }
    .boxed_local()
}
