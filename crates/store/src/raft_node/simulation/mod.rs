//! Whole clusters in one thread: members, disks, network and clock are simulated, everything that happens follows from a
//! seed. A failure prints its seed, and the seed replays it.
//!
//! ```text
//! COXSWAIN_SEED=17 cargo test -p store simulation        # one seed
//! COXSWAIN_SEEDS=10000 cargo test --release -p store simulation
//! ```
//!
//! What happens: messages are lost, late, out of order and twice; networks are cut, one way too; processes are killed,
//! between any two steps of what they do ([`cluster`]), or stopped; unsynced writes are lost from some point on; disks are
//! slow or full; clocks go wrong; leases run out; members are added, promoted, removed and replaced, singly and jointly ([`operator`]).
//!
//! What is checked, of each seed, at every step: at most one leader per term; the same state behind the same entry;
//! quorums that meet; nothing is committed, and nothing promised to a peer, that the disks do not hold ([`checks`]). And
//! at the end: what clients and watchers were told keeps every promise ([`history`]), and once the faults end the cluster
//! serves again and its members agree. [`mutants`] shows that all of this finds something.

mod cases;
mod checks;
mod clients;
mod cluster;
mod dice;
mod disk;
mod faults;
mod figures;
mod member;
mod mutants;
mod network;
mod operator;
mod plant;
mod watcher;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cluster::Cluster;
use figures::Figures;
use parking_lot::Mutex;

/// Enough to find what a change breaks; more by the variable.
const SEEDS: u64 = 600;
const FIRST_SEED: u64 = 1;

/// What a run of this many seeds must have seen, else it shows nothing.
const MUST_HAPPEN: [&str; 21] = [
    "all killed",
    "changes of members",
    "checkpoints too far behind",
    "crash: between two messages",
    "crash: checkpoint saved, log not cut",
    "crash: decided and applied, nothing sent",
    "crash: in a checkpoint",
    "crash: sent, not written",
    "crash: snapshot sent",
    "crash: snapshot taken, not saved",
    "crash: synced, nobody knows yet",
    "crash: written, not synced",
    "disks full",
    "leader transfers",
    "leases found to have run out",
    "log too far ahead",
    "operations answered",
    "promoted in a joint change",
    "removed members gone",
    "replaced in a joint change",
    "snapshots",
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}

/// A panic of the core is a failure like any other: it must name its seed.
fn guarded(cluster: Cluster) -> Result<Figures, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| cluster.run()));
    ran.unwrap_or_else(|panic| Err(format!("panicked: {}", said(&*panic))))
}

fn check(seed: u64) -> Result<Figures, String> {
    guarded(Cluster::new(seed, None))
}

/// Seeds are independent: each thread takes the next. Returns the first that failed.
fn check_all(seeds: std::ops::Range<u64>) -> Result<Figures, (u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let all = Mutex::new(Figures::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut figures = Figures::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().as_ref().is_some_and(|(known, _)| *known < seed) {
                        break;
                    }
                    match check(seed) {
                        Ok(seen) => figures.merge(&seen),
                        Err(what) => {
                            let mut failed = failed.lock();
                            if failed.as_ref().is_none_or(|(known, _)| seed < *known) {
                                *failed = Some((seed, what));
                            }
                        }
                    }
                }
                all.lock().merge(&figures);
            });
        }
    });
    failed.into_inner().map_or(Ok(all.into_inner()), Err)
}

#[test]
fn seeds() {
    let seeds = match number("COXSWAIN_SEED") {
        Some(seed) => seed..seed + 1,
        None => FIRST_SEED..FIRST_SEED + number("COXSWAIN_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let figures = match check_all(seeds) {
        Ok(figures) => figures,
        Err((seed, what)) => panic!("seed {seed}: {what}\nreplay with COXSWAIN_SEED={seed}"),
    };
    println!("{count} seeds:{figures}");
    if count >= SEEDS {
        let missing: Vec<_> = MUST_HAPPEN.into_iter().filter(|what| figures.of(what) == 0).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

#[test]
fn a_seed_replays_what_happened() {
    let figures = |seed| check(seed).expect("a right store");
    assert_eq!(figures(3), figures(3));
    assert_ne!(figures(3), figures(4));
}
