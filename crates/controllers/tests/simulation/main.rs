//! Controllers against a small world: random order, crashes between any two writes, and invariants that hold after
//! every step. Each seed is a different story; a failing one prints itself.

mod daemon_set;
mod deployment;
mod garbage;
mod job;
mod stateful_set;
mod world;

/// Runs a story for many seeds.
fn for_seeds(story: fn(u64)) {
    for seed in 0..12 {
        let outcome = std::panic::catch_unwind(|| story(seed));
        assert!(outcome.is_ok(), "seed {seed} failed");
    }
}
