//! Histories by chance: what a real store does passes, one change to it does not, and both
//! checkers agree.

use history::{History, check, exhaustive};
use proptest::prelude::*;

use crate::corruption::{corrupt, meddle};
use crate::generator::{Shape, generate};

fn shape(clients: u32, operations: usize, watches: usize) -> impl Strategy<Value = Shape> {
    let lost = prop_oneof![Just(1_000_000), 8..60u32];
    (any::<u64>(), 1..=clients, 1..=operations, 1..8u32, lost, any::<bool>()).prop_map(
        move |(seed, clients, operations, keys, lost_in, compactions)| Shape {
            seed,
            clients,
            operations,
            keys,
            watches,
            lost_in,
            compactions,
        },
    )
}

fn assert_clean(history: &History) {
    let report = check(history);
    assert!(report.is_clean(), "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_a_store_does_passes(shape in shape(12, 200, 4)) {
        assert_clean(&generate(shape));
    }

    #[test]
    fn one_corruption_is_found((shape, seed) in (shape(12, 120, 4), any::<u64>())) {
        let mut history = generate(shape);
        if let Some(what) = corrupt(&mut history, seed) {
            prop_assert!(!check(&history).is_clean(), "not found: {what}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Without watches, on whatever comes out of meddling: much of it is still right.
    #[test]
    fn both_checkers_agree((shape, seed, meddled) in (shape(4, 9, 0), any::<u64>(), 0..3u32)) {
        let mut history = generate(shape);
        for n in 0..meddled {
            meddle(&mut history, seed.wrapping_add(u64::from(n)));
        }
        let exact = exhaustive::is_linearizable(&history).expect("short");
        let report = check(&history);
        prop_assert!(!report.undecided);
        prop_assert_eq!(exact, report.is_clean(), "{}", report);
    }
}

/// As large as a robustness run records it.
#[test]
fn ten_thousand_operations_of_fifty_clients() {
    let shape =
        Shape { seed: 1, clients: 50, operations: 10_000, keys: 40, watches: 20, lost_in: 100, compactions: true };
    assert_clean(&generate(shape));
}

/// Nothing but reads tell what the lost operations did.
#[test]
fn gaps_are_filled_without_a_watch() {
    for seed in 0..20 {
        let shape = Shape { seed, clients: 10, operations: 600, keys: 6, watches: 0, lost_in: 60, compactions: false };
        assert_clean(&generate(shape));
    }
}
