//! Leases when the leadership moves and the one who had it does not know.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, join_all};
use history::{Answer, At, Outcome, Request};
use tokio::time::{Instant, sleep};

use super::Scene;
use crate::links::Cuts;

const TTL: i64 = 3;
const ROUNDS: i64 = 2;
const RENEWALS: usize = 20;

/// The leader sleeps for longer than the lease; the lease is renewed at the new leader all the time. When the old one
/// wakes up it finds the lease to have run out, and must not be able to end it.
pub fn renewed_elsewhere<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        for round in 1..=ROUNDS {
            let old = cluster.await_leader().await?;
            let other = (old + 1) % cluster.size();
            scene.surely(other, || Request::LeaseGrant { id: round, ttl_seconds: TTL }).await?;
            let key = format!("leased/{round}");
            scene.surely(other, || scene.put_with_lease(&key, round)).await?;
            cluster.members[old].pause()?;
            let wakes = Instant::now() + Duration::from_secs(6);
            let mut awake = false;
            let mut renewed = 0;
            // Until the old leader has been awake for a while.
            while Instant::now() < wakes + Duration::from_secs(2) {
                if !awake && Instant::now() >= wakes {
                    cluster.members[old].go_on()?;
                    awake = true;
                }
                let outcome = scene.ask(other, Request::LeaseKeepAlive { id: round }).await;
                let alive = |a: &Answer| matches!(a, Answer::KeepAlive { ttl_seconds } if *ttl_seconds > 0);
                renewed += usize::from(matches!(outcome, Outcome::Answered { answer, .. } if alive(&answer)));
                sleep(Duration::from_millis(50)).await;
            }
            ensure!(renewed > 10, "the lease was renewed only {renewed} times");
            scene.read(other, At::Latest).await?;
        }
        Ok(())
    }
    .boxed_local()
}

/// The leader is cut off from the others or asleep, a lease is ended at the new leader, and the old one is asked to
/// renew it.
pub fn deposed_leader<'a>(scene: &'a mut Scene<'_>) -> LocalBoxFuture<'a, Result<()>> {
    async move {
        let cluster = scene.cluster;
        for round in 1..=ROUNDS {
            let old = cluster.await_leader().await?;
            let others: Vec<usize> = cluster.all().into_iter().filter(|n| *n != old).collect();
            let asleep = round % 2 == 1;
            scene.surely(old, || Request::LeaseGrant { id: round, ttl_seconds: 60 }).await?;
            let mut clients = Vec::new();
            for _ in 0..RENEWALS {
                let mut client = cluster.patient_client(old).await;
                client.status().await?;
                clients.push(client);
            }
            if asleep {
                cluster.members[old].pause()?
            } else {
                cluster.cut(&Cuts::default().apart(&[old], &others))?
            }
            scene.surely(others[0], || Request::LeaseRevoke { id: round }).await?;
            let renewals = clients.iter_mut().zip(0..).map(|(client, n)| {
                let recorder = &scene.recorder;
                async move {
                    sleep(Duration::from_millis(100) * n).await;
                    recorder.run(300, client, Request::LeaseKeepAlive { id: round }).await
                }
            });
            let wakes = async {
                sleep(Duration::from_secs(1)).await;
                if asleep { cluster.members[old].go_on() } else { Ok(()) }
            };
            tokio::join!(join_all(renewals), wakes).1?;
            cluster.cut(&Cuts::default())?;
        }
        Ok(())
    }
    .boxed_local()
}
