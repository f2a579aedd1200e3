//! Automatic compaction: keeps the history of a time, or of a number of revisions.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::auth::Asker;
use crate::config::Compaction;
use crate::error::Refusal;
use crate::pb::etcdserverpb::CompactionRequest;
use crate::pb::kvraft::command::Op;
use crate::raft_node::Handle;
use crate::shared::Shared;

/// How often a limit on revisions is looked at; etcd's interval.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// A limit on time is looked at as often as that time passes, and every hour at least; samples are taken so many times as
/// often. So it is in etcd.
const MAX_INTERVAL: Duration = Duration::from_secs(3_600);
const SAMPLES: u32 = 10;

/// Runs until dropped.
pub async fn run(mode: Compaction, shared: &Shared, node: &Handle) {
    match mode {
        Compaction::Off => std::future::pending().await,
        Compaction::Revisions(keep) => {
            let mut ticks = interval(REVISION_INTERVAL);
            loop {
                ticks.tick().await;
                let revision = shared.state.read().kv.revision();
                let _ = compact(revision - keep, shared, node).await;
            }
        }
        Compaction::Periodic(keep) => periodic(keep, shared, node).await,
    }
}

async fn periodic(keep: Duration, shared: &Shared, node: &Handle) {
    let mut ticks = interval((keep.min(MAX_INTERVAL) / SAMPLES).max(Duration::from_millis(1)));
    let mut samples = Samples::new(keep, Instant::now());
    loop {
        let now = ticks.tick().await;
        let newest = shared.state.read().kv.revision();
        if let Some(revision) = samples.take(now, newest)
            && compact(revision, shared, node).await
        {
            samples.compacted = now;
        }
    }
}

/// The revisions of the time that is kept, so far apart as they are taken.
struct Samples {
    keep: Duration,
    taken: VecDeque<(Instant, i64)>,
    compacted: Instant,
}

impl Samples {
    fn new(keep: Duration, now: Instant) -> Samples {
        Samples { keep, taken: VecDeque::new(), compacted: now }
    }

    /// Takes one; what is to be compacted now, and again until it is: the newest that is old enough.
    fn take(&mut self, now: Instant, revision: i64) -> Option<i64> {
        self.taken.push_back((now, revision));
        let is_old = |(taken, _): &(Instant, i64)| now.duration_since(*taken) >= self.keep;
        while self.taken.get(1).is_some_and(is_old) {
            self.taken.pop_front();
        }
        let (_, oldest) = *self.taken.front().filter(|oldest| is_old(oldest))?;
        (now.duration_since(self.compacted) >= self.keep.min(MAX_INTERVAL)).then_some(oldest)
    }
}

/// Whether it is compacted now. Whoever does not lead leaves it to the leader.
async fn compact(revision: i64, shared: &Shared, node: &Handle) -> bool {
    if shared.status.leader() != shared.member_id {
        return false;
    }
    if revision <= shared.state.read().kv.compacted() {
        return true;
    }
    let request = CompactionRequest { revision, physical: false };
    match node.propose(Asker::Member.sign(Op::Compaction(request))).await {
        Ok(_) => tracing::info!(revision, "compacted automatically"),
        Err(Refusal::Compacted) => {}
        Err(error) => {
            tracing::warn!(revision, %error, "automatic compaction failed");
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Revisions are as many as minutes have passed; who leads from some minute on compacts.
    fn compactions(keep_minutes: u64, minutes: u64, leads_from: u64) -> Vec<(u64, i64)> {
        let (begun, minute) = (Instant::now(), Duration::from_secs(60));
        let mut samples = Samples::new(minute * u32::try_from(keep_minutes).expect("few"), begun);
        let every = keep_minutes.min(60) / 10;
        let taken = (0..=minutes).filter(|m| m % every == 0).filter_map(|m| {
            let now = begun + minute * u32::try_from(m).expect("few");
            let due = samples.take(now, i64::try_from(m).expect("few"))?;
            (m >= leads_from).then(|| samples.compacted = now).map(|()| (m, due))
        });
        taken.collect()
    }

    #[test]
    fn a_time_is_kept_once_or_twice_and_a_long_one_an_hour_more() {
        assert_eq!(compactions(10, 35, 0), [(10, 0), (20, 10), (30, 20)]);
        assert_eq!(compactions(180, 400, 0), [(180, 0), (240, 60), (300, 120), (360, 180)]);
    }

    #[test]
    fn who_comes_to_lead_compacts_what_is_due() {
        assert_eq!(compactions(10, 35, 13), [(13, 3), (23, 13), (33, 23)]);
    }
}
