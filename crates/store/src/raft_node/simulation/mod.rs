//! Whole clusters in one thread: members, disks, network and clock are simulated, everything that happens follows from a
//! seed. A failure prints its seed, and the seed replays it.
//!
//! ```text
//! COXSWAIN_SEED=17 cargo test -p store simulation        # one seed
//! COXSWAIN_SEEDS=10000 cargo test --release -p store simulation
//! ```
//!
//! What is checked, of each seed: at most one leader per term; members that applied the same entry hold the same state;
//! what clients and watchers were told keeps every promise ([`history`]); and once the faults end the cluster serves again
//! and its members agree.

mod clients;
mod cluster;
mod disk;
mod network;

use cluster::Cluster;

/// Enough to find what a change breaks; more by the variable.
const SEEDS: u64 = 100;
const FIRST_SEED: u64 = 1;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn check(seed: u64) -> Result<cluster::Figures, String> {
    Cluster::new(seed).run()
}

#[test]
fn seeds() {
    let seeds = match number("COXSWAIN_SEED") {
        Some(seed) => seed..seed + 1,
        None => FIRST_SEED..FIRST_SEED + number("COXSWAIN_SEEDS").unwrap_or(SEEDS),
    };
    let mut all = cluster::Figures::default();
    for seed in seeds.clone() {
        match check(seed) {
            Ok(figures) => all.add(&figures),
            Err(what) => panic!("seed {seed}: {what}\nreplay with COXSWAIN_SEED={seed}"),
        }
    }
    println!("{} seeds: {all:?}", seeds.end - seeds.start);
    assert!(all.answered > 0 && all.crashes > 0 && all.elections > 0, "nothing happened: {all:?}");
}

#[test]
fn a_seed_replays_what_happened() {
    let figures = |seed| check(seed).expect("a right store");
    assert_eq!(figures(3), figures(3));
    assert_ne!(figures(3), figures(4));
}
