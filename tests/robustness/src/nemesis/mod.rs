//! What disturbs a cluster: three lanes that run side by side, each one fault after the other, so that a member is
//! killed while another is cut off and the leadership moves.

mod links;
mod processes;
mod requests;

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use recorder::Recorder;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;

/// One lane: its dice, and when it ends.
struct Lane<'a> {
    cluster: &'a Cluster<'a>,
    recorder: &'a Recorder,
    rng: StdRng,
    until: Instant,
}

/// Disturbs the cluster for so long. Every fault has been taken back when this returns without an error.
pub async fn run(cluster: &Cluster<'_>, recorder: &Recorder, seed: u64, duration: Duration) -> Result<()> {
    let until = Instant::now() + duration;
    let rng = |n: u64| StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(n));
    let lane = |n: u64| Lane { cluster, recorder, rng: rng(n), until };
    let lanes = (Box::pin(processes::run(lane(1))), Box::pin(links::run(lane(2))), Box::pin(requests::run(lane(3))));
    tokio::try_join!(lanes.0, lanes.1, lanes.2)?;
    Ok(())
}

impl Lane<'_> {
    fn over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(least..=most))
    }

    async fn wait(&mut self, least: u64, most: u64) {
        sleep(self.ms(least, most)).await;
    }

    /// The leader half of the time, if there is one: faults of the others show less.
    async fn victim(&mut self) -> usize {
        let (lead, any) = (self.rng.random(), self.rng.random_range(0..self.cluster.size()));
        if lead { self.cluster.leader().await.unwrap_or(any) } else { any }
    }

    /// By weight.
    fn choose<T: Copy>(&mut self, weighted: &[(T, u32)]) -> T {
        weighted.choose_weighted(&mut self.rng, |(_, weight)| *weight).expect("some weight").0
    }
}
