//! Real `kube-store` members, each in a network namespace and on a disk of its own, are killed, stopped, cut off,
//! filled up, slowed down and replaced while clients do everything at once. What the clients recorded is checked
//! against everything etcd promises.
//!
//! Invariants
//! - A seed decides which faults come in which order; what meets what is the machine's.
//! - The host's network is not touched: bridge, links and rules are in namespaces that belong to this process.
//! - Processes, namespaces, mounts and cgroups are gone when it ends, however it ends; what a killed run left is removed
//!   by the next.

pub mod cluster;
pub mod directed;
pub mod disk;
pub mod flags;
pub mod host;
pub mod journal;
pub mod links;
pub mod member;
pub mod nemesis;
pub mod restarts;
pub mod round;
pub mod traffic;
pub mod verdict;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use flags::Flags;
use host::Host;

/// A long run is many clusters: each history is checked while its seed is still news.
const MAX_ROUND: Duration = Duration::from_secs(240);

/// Runs everything that was asked for, or until a signal.
pub async fn run(flags: &Flags, host: &Host) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        ended = run_all(flags, host) => ended,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    }
}

async fn run_all(flags: &Flags, host: &Host) -> Result<()> {
    let seed = flags.seed.unwrap_or_else(rand::random::<u32>);
    println!("seed {seed}");
    let mut failures = 0;
    for case in directed::ALL.iter().filter(|case| flags.wants(case.name)) {
        failures += usize::from(!directed::run(case, host, seed).await?);
    }
    if flags.wants("restarts") && flags.restarts > 0 {
        failures += usize::from(!restarts::run(flags, host).await?);
    }
    if flags.wants("rounds") {
        failures += rounds(flags, host, seed).await?;
    }
    if failures > 0 {
        bail!("{failures} failed (seed {seed}); logs and histories are in {}", host.kept().display());
    }
    Ok(())
}

async fn rounds(flags: &Flags, host: &Host, seed: u32) -> Result<usize> {
    let total = flags.duration();
    let count = u32::try_from(total.as_secs().div_ceil(MAX_ROUND.as_secs())).unwrap_or(u32::MAX).max(1);
    let mut failures = 0;
    for n in 0..count {
        let members = flags.members.unwrap_or(if n % 2 == 0 { 3 } else { 5 });
        let plan = round::Plan { seed: seed.wrapping_add(n), members, duration: total / count };
        failures += usize::from(!round::run(&plan, host).await?);
    }
    Ok(failures)
}
