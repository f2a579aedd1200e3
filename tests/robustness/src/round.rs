//! One cluster's life under faults and traffic, and the judgement of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use history::History;

use crate::cluster::Cluster;
use crate::host::Host;
use crate::nemesis;
use crate::traffic::Traffic;
use crate::verdict::{Counts, judge, keep};

/// Checkpoints, cuts of the log and snapshots to those who lag come every few seconds.
pub const FLAGS: [&str; 6] =
    ["--snapshot-count", "500", "--snapshot-catchup-entries", "10", "--watch-progress-notify-interval", "500ms"];
/// Answers per second of a round, or it showed nothing. Much more is usual.
const LEAST_PER_SECOND: u64 = 10;

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u32,
    pub members: u8,
    pub duration: Duration,
}

/// Whether every promise was kept.
pub async fn run(plan: &Plan, host: &Host) -> Result<bool> {
    let cluster = Cluster::start(host, plan.members.into(), &FLAGS).await?;
    let (history, outcome) = attempt(plan, &cluster).await;
    let counts = history.as_ref().map(Counts::of).unwrap_or_default();
    let term = cluster.status(0).await.map_or(0, |status| status.raft_term());
    println!("round seed {} of {} members, {:?}: {counts}", plan.seed, plan.members, plan.duration);
    println!("  {term} terms, faults {:?}", cluster.journal.faults());
    let Err(error) = outcome else { return Ok(true) };
    println!("  FAILED: {error:#}\n  replay: --only rounds --members {} --seed {}", plan.members, plan.seed);
    keep(&cluster, history.as_ref(), host.kept(), &format!("round-{}", plan.seed))?;
    Ok(false)
}

async fn attempt(plan: &Plan, cluster: &Cluster<'_>) -> (Option<History>, Result<()>) {
    let traffic = Traffic::start(cluster, u64::from(plan.seed));
    let recorder = traffic.recorder().clone();
    let disturbed = nemesis::run(cluster, &recorder, u64::from(plan.seed), plan.duration).await;
    let healed = cluster.heal();
    let finished = traffic.finish(cluster).await;
    let (history, revision) = match finished {
        Ok(finished) => finished,
        Err(error) => {
            let history = History { operations: recorder.take(), ..History::default() };
            return (Some(history), disturbed.and(healed).and(Err(error)));
        }
    };
    let judged = async {
        disturbed?;
        healed?;
        cluster.assert_agreement(revision).await?;
        cluster.assert_no_panic()?;
        judge(&history)?;
        let least = usize::try_from(plan.duration.as_secs() * LEAST_PER_SECOND).context("a short round")?;
        let answered = history.operations.len() - Counts::of(&history).unknown;
        ensure!(answered >= least, "only {answered} operations were answered: the round shows nothing");
        Ok(())
    };
    let outcome = judged.await;
    (Some(history), outcome)
}
