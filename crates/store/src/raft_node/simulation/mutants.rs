//! Shows that the simulation finds what it is there to find.

use super::cases::{
    committed_one_by_one, ended_elsewhere, ended_while_the_disk_waits, interrupted_compaction, parted,
    renewed_elsewhere,
};
use super::cluster::Cluster;
use super::guarded;
use super::plant::Plant;

/// The first seed that finds a planted fault, and what it says.
fn found(plant: Plant, looks_inside: bool, seeds: u64) -> Option<(u64, String)> {
    (1..=seeds).find_map(|seed| {
        let mut cluster = Cluster::new(seed, Some(plant));
        cluster.looks_inside = looks_inside;
        guarded(cluster).err().map(|what| (seed, what))
    })
}

fn check(plant: Plant, looks_inside: bool, seeds: u64) {
    let found = found(plant, looks_inside, seeds);
    let (seed, what) = found.unwrap_or_else(|| panic!("{plant:?} is not found in {seeds} seeds"));
    println!("{plant:?} (inside: {looks_inside}): seed {seed}: {}", what.lines().next().unwrap_or_default());
}

#[test]
fn what_is_answered_too_early_is_found() {
    for plant in [Plant::AnswerBeforeSync, Plant::SendBeforeSync, Plant::ForgetVote, Plant::LyingDisk] {
        check(plant, true, 5);
    }
    for plant in [Plant::AnswerBeforeSync, Plant::SendBeforeSync, Plant::LyingDisk] {
        check(plant, false, 300);
    }
}

/// Chance takes thousands of seeds to find these two; the directed cases do at once.
#[test]
fn what_is_forgotten_is_found() {
    let reverted = (0..150).find_map(|delay| interrupted_compaction(delay, Some(Plant::RevisionFromRecords)).err());
    let what = reverted.expect("some end of the process shows it");
    assert!(what.contains("RevisionBack"), "{what}");
    let what = committed_one_by_one(Some(Plant::ForgetCommit)).expect_err("it is forgotten");
    assert!(what.contains("was committed before"), "{what}");
}

#[test]
fn a_wrong_checkpoint_is_found() {
    for plant in [Plant::CutBeforeCheckpoint, Plant::CheckpointBeforeSync] {
        check(plant, true, 100);
    }
}

#[test]
fn what_clients_and_watchers_may_not_see_is_found() {
    for plant in [Plant::ReadWithoutIndex, Plant::DropEvent, Plant::RepeatEvent, Plant::IgnoreStartRevision] {
        check(plant, false, 30);
    }
    check(Plant::AloneForever, false, 300);
    let stale = (0..100).find_map(|seed| parted(seed, Some(Plant::AloneTooSoon)).err());
    assert!(stale.is_some(), "what the other answered was not applied");
}

#[test]
fn what_leases_may_not_do_is_found() {
    check(Plant::HastyLeases, false, 300);
    let ended = (0..20).find_map(|seed| renewed_elsewhere(seed, Some(Plant::EndLeasesAsAnyone)).err());
    let what = ended.expect("it is ended by who slept");
    assert!(what.contains("LeaseTooShort"), "{what}");
    let renewed = (0..20).find_map(|seed| ended_elsewhere(seed, Some(Plant::SureForever)).err());
    let what = renewed.expect("it is renewed by who slept");
    assert!(what.contains("LeaseBroken"), "{what}");
    let renewed = (0..20).find_map(|seed| ended_while_the_disk_waits(seed, Some(Plant::SureWhenBehind)).err());
    let what = renewed.expect("it is renewed by who does not know");
    assert!(what.contains("LeaseBroken"), "{what}");
}

#[test]
fn what_members_may_not_do_to_each_other_is_found() {
    for plant in [Plant::ApplyUncommitted, Plant::ForwardTwice, Plant::JoinerFounds] {
        check(plant, true, 30);
    }
    check(Plant::ProposeTwice, false, 300);
}
