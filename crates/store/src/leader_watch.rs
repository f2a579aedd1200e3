//! Tells those who asked for it that there is no leader: requests at once, streams after a while, because to open them
//! again costs more than to wait for an election. Writes of others wait as long.

use std::convert::Infallible;
use std::time::Duration;

use crate::shared::Shared;

/// In election timeouts; etcd's measure.
pub const PATIENCE: u32 = 3;

/// Looks once per election timeout, for as long as it is driven.
pub async fn run(shared: &Shared, election_timeout: Duration) -> Infallible {
    let mut looks = tokio::time::interval(election_timeout);
    let mut without = 0;
    loop {
        looks.tick().await;
        without = if shared.status.leader() == 0 { without + 1 } else { 0 };
        shared.leaderless.send_if_modified(|leaderless| {
            let lost = without >= PATIENCE;
            std::mem::replace(leaderless, lost) != lost
        });
    }
}

/// Returns once there has been no leader for too long; never, if nobody asked.
pub async fn lost(shared: &Shared, asked: bool) {
    if !asked {
        return std::future::pending().await;
    }
    let mut leaderless = shared.leaderless.subscribe();
    // The sender lives as long as what it is a part of.
    if leaderless.wait_for(|lost| *lost).await.is_err() {
        std::future::pending().await
    }
}
