//! The part of the log that Raft still looks at, in memory.
//!
//! Entries stay until they are applied; with peers, a bounded tail longer. What a peer lacks that was heard of lately
//! stays as well, within bounds that are wider: one that is sent a snapshot could otherwise never catch up with the
//! writes that go on meanwhile. Whoever lags further behind gets a snapshot.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use raft::prelude::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, NO_LIMIT, RaftState, Storage, StorageError, util};

use super::effects::Captured;
use crate::state::{Applied, conf_of};

/// What the applied entries that are kept for nobody in particular may come to: large ones are fewer.
const KEPT_BYTES: u64 = 64 << 20;
/// What those may come to that a peer lacks, unless the whole state is more.
const LACKED_BYTES: u64 = 256 << 20;
/// For each entry that is kept for nobody in particular, so many are for a peer that lacks them.
const LACKED_PER_KEPT: u64 = 100;
/// A captured state that nobody came for is let go of after so many ticks.
const CAPTURED_TICKS: u32 = 50;

/// How many applied entries a cluster of several members keeps.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// For whoever may lag.
    pub entries: u64,
    /// For a peer that lacks them and was heard of lately.
    pub lacked: u64,
}

impl Kept {
    /// By `--snapshot-catchup-entries`.
    pub fn of(entries: u64) -> Kept {
        Kept { entries, lacked: entries.saturating_mul(LACKED_PER_KEPT) }
    }
}

/// The first entry that a peer lacks who was heard of lately, and how large the state is.
#[derive(Debug, Clone, Copy)]
pub struct Lacked {
    pub first: u64,
    pub state_bytes: u64,
}

pub struct LogView {
    hard_state: HardState,
    conf: ConfState,
    /// The entry before the first one here.
    before: Applied,
    entries: VecDeque<Entry>,
    /// Of all these entries.
    bytes: u64,
    /// Up to here they are applied and durable, and what those behind come to.
    settled: u64,
    waiting_bytes: u64,
    kept: Kept,
    /// A peer lags behind the entries here; Raft asks again later.
    wants_snapshot: Cell<bool>,
    captured: Option<(Arc<Captured>, u32)>,
}

impl LogView {
    pub fn new(applied: Applied, conf: ConfState, hard_state: HardState, entries: Vec<Entry>, kept: Kept) -> LogView {
        let first = entries.first().map_or(applied.index + 1, |e| e.index);
        assert_eq!(first, applied.index + 1, "the log continues the checkpoint");
        let bytes = entries.iter().map(bytes_of).sum();
        LogView {
            hard_state,
            conf,
            before: applied,
            bytes,
            settled: applied.index,
            waiting_bytes: bytes,
            entries: entries.into(),
            kept,
            wants_snapshot: Cell::new(false),
            captured: None,
        }
    }

    pub fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    /// A snapshot takes the place of everything here.
    pub fn restore(&mut self, metadata: &SnapshotMetadata) {
        self.before = Applied { index: metadata.index, term: metadata.term };
        self.entries.clear();
        (self.bytes, self.settled, self.waiting_bytes) = (0, metadata.index, 0);
        self.conf = metadata.conf_state.clone().unwrap_or_default();
    }

    pub fn wants_snapshot(&self) -> bool {
        self.wants_snapshot.get()
    }

    pub fn set_captured(&mut self, captured: Captured) {
        self.wants_snapshot.set(false);
        self.captured = Some((Arc::new(captured), 0));
    }

    pub fn captured(&self) -> Option<Arc<Captured>> {
        self.captured.as_ref().map(|(captured, _)| captured.clone())
    }

    /// A tick has passed.
    pub fn age(&mut self) {
        if let Some((_, age)) = &mut self.captured {
            *age += 1;
        }
        self.captured.take_if(|(_, age)| *age > CAPTURED_TICKS);
    }

    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Appends; entries already here under the same indexes give way.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else {
            return;
        };
        assert!(first.index > self.before.index, "an applied entry is never replaced");
        assert!(first.index > self.settled, "nor is one that is settled");
        assert!(first.index <= self.last() + 1, "entries follow each other");
        let given_way: u64 = self.entries.drain(self.position(first.index)..).map(|entry| bytes_of(&entry)).sum();
        let come: u64 = entries.iter().map(bytes_of).sum();
        self.bytes = self.bytes - given_way + come;
        self.waiting_bytes = self.waiting_bytes - given_way + come;
        self.entries.extend(entries.iter().cloned());
    }

    /// What is not applied, or not durable.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Everything up to an index is applied and durable.
    pub fn settle(&mut self, index: u64) {
        if index > self.settled {
            let settled = self.entries.range(self.position(self.settled + 1)..self.position(index + 1));
            self.waiting_bytes -= settled.map(bytes_of).sum::<u64>();
            self.settled = index;
        }
    }

    /// Lets go of entries that are applied and durable, and that no peer is expected to ask for.
    pub fn trim(&mut self, applied: u64, lacked: Lacked) {
        self.settle(applied);
        let alone = self.conf.voters.len() == 1 && self.conf.learners.is_empty();
        let kept = if alone { 0 } else { self.kept.entries };
        let lacked_bytes = LACKED_BYTES.max(lacked.state_bytes);
        while let Some(first) = self.entries.front().filter(|first| first.index <= applied) {
            let newer = applied - first.index;
            let is_kept = newer < kept && self.bytes <= KEPT_BYTES;
            let is_lacked = first.index >= lacked.first && newer < self.kept.lacked && self.bytes <= lacked_bytes;
            if is_kept || is_lacked {
                break;
            }
            self.before = Applied { index: first.index, term: first.term };
            self.bytes -= bytes_of(first);
            self.entries.pop_front();
        }
    }

    fn last(&self) -> u64 {
        self.entries.back().map_or(self.before.index, |e| e.index)
    }

    /// Where an index behind `before` lies, or would.
    fn position(&self, index: u64) -> usize {
        let offset = index - self.before.index - 1;
        usize::try_from(offset).expect("entries are in memory")
    }
}

/// What it takes in memory, about.
pub fn bytes_of(entry: &Entry) -> u64 {
    u64::try_from(util::entry_approximate_size(entry)).unwrap_or(NO_LIMIT).max(1)
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.index {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "asked for entries up to {high}, the last is {}", self.last());
        let range = self.position(low)..self.position(high);
        let max_bytes = max_size.into().unwrap_or(NO_LIMIT);
        let mut bytes = 0;
        // Always one; and no more is copied than is asked for: a peer that lags far asks again and again.
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += bytes_of(entry);
            first || bytes <= max_bytes
        };
        Ok(self.entries.range(range).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.index {
            return Ok(self.before.term);
        }
        if index < self.before.index {
            return Err(StorageError::Compacted.into());
        }
        let entry = self.entries.get(self.position(index));
        entry.map(|e| e.term).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Asked for on behalf of a peer that lags behind the entries here. The state is captured after Raft was driven,
    /// not in the middle of it.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let captured = self.captured.as_ref().map(|(captured, _)| &captured.head);
        match captured.filter(|head| head.applied_index >= request_index.max(self.before.index)) {
            Some(head) => {
                let metadata = SnapshotMetadata {
                    conf_state: Some(conf_of(head)),
                    index: head.applied_index,
                    term: head.applied_term,
                };
                Ok(Snapshot { metadata: Some(metadata), ..Snapshot::default() })
            }
            None => {
                self.wants_snapshot.set(true);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        range.map(|index| Entry { index, term, ..Entry::default() }).collect()
    }

    fn view() -> LogView {
        let conf = ConfState { voters: vec![1], ..ConfState::default() };
        let applied = Applied { index: 10, term: 2 };
        LogView::new(applied, conf, HardState::default(), entries(11..=14, 3), Kept { entries: 2, lacked: 10 })
    }

    /// With a peer, and entries of a mebibyte each.
    fn large(range: std::ops::RangeInclusive<u64>, kept: Kept) -> LogView {
        let conf = ConfState { voters: vec![1, 2], ..ConfState::default() };
        let data = vec![0; 1 << 20];
        let entries = range.map(|index| Entry { index, term: 1, data: data.clone(), ..Entry::default() }).collect();
        LogView::new(Applied::default(), conf, HardState::default(), entries, kept)
    }

    const NOBODY_LAGS: Lacked = Lacked { first: u64::MAX, state_bytes: 0 };

    #[test]
    fn terms_and_bounds_around_the_checkpoint() {
        let view = view();
        assert_eq!((view.first_index(), view.last_index()), (Ok(11), Ok(14)));
        assert_eq!(view.term(10), Ok(2));
        assert_eq!(view.term(14), Ok(3));
        assert!(view.term(9).is_err() && view.term(15).is_err());
    }

    #[test]
    fn a_new_leaders_entries_replace_the_end() {
        let mut view = view();
        view.append(&entries(13..=13, 4));
        let context = GetEntriesContext::empty(false);
        let terms: Vec<u64> = view.entries(11, 14, None, context).expect("there").iter().map(|e| e.term).collect();
        assert_eq!(terms, [3, 3, 4]);
    }

    #[test]
    fn as_many_entries_are_given_as_were_asked_for() {
        let view = view();
        let bytes = u64::try_from(util::entry_approximate_size(&entries(11..=11, 3)[0])).expect("small");
        let given = |max: Option<u64>| {
            let found = view.entries(11, 15, max, GetEntriesContext::empty(false)).expect("there");
            assert_eq!(found[..], entries(11..=14, 3)[..found.len()], "{max:?}");
            found.len()
        };
        let counts = [Some(0), Some(1), Some(bytes), Some(2 * bytes), Some(3 * bytes - 1), Some(9 * bytes), None];
        assert_eq!(counts.map(given), [1, 1, 1, 2, 2, 4, 4]);
    }

    #[test]
    fn a_lone_member_keeps_nothing_applied() {
        let mut view = view();
        view.trim(13, NOBODY_LAGS);
        assert_eq!((view.first_index(), view.last_index()), (Ok(14), Ok(14)));
        assert_eq!(view.term(13), Ok(3));
        view.trim(14, NOBODY_LAGS);
        assert_eq!((view.first_index(), view.last_index(), view.bytes), (Ok(15), Ok(14), 0));
    }

    #[test]
    fn what_waits_is_counted_until_it_is_settled() {
        let mut view = large(1..=4, Kept::of(10));
        let one = view.bytes / 4;
        assert_eq!(view.waiting_bytes(), 4 * one);
        view.settle(3);
        view.settle(2);
        assert_eq!((view.waiting_bytes(), view.bytes), (one, 4 * one), "none is let go of by that");
        view.append(&[Entry { index: 4, term: 2, ..Entry::default() }]);
        let small = bytes_of(&Entry { index: 4, term: 2, ..Entry::default() });
        assert_eq!(view.waiting_bytes(), small, "what gives way does not wait any more");
        view.restore(&SnapshotMetadata { index: 20, term: 2, ..SnapshotMetadata::default() });
        view.append(&[Entry { index: 21, term: 2, ..Entry::default() }]);
        assert_eq!(view.waiting_bytes(), small);
        view.trim(21, NOBODY_LAGS);
        assert_eq!(view.waiting_bytes(), 0);
    }

    #[test]
    fn what_a_peer_lacks_stays_longer_than_the_rest() {
        let first_left = |kept: Kept, lacked: Lacked| {
            let mut view = large(1..=400, kept);
            view.trim(400, lacked);
            view.first_index().expect("known")
        };
        let few = Kept { entries: 10, lacked: 1_000 };
        assert_eq!(first_left(few, NOBODY_LAGS), 391, "so many entries");
        assert_eq!(first_left(Kept::of(5_000), NOBODY_LAGS), 338, "or as many as 64 MiB hold");
        assert_eq!(first_left(few, Lacked { first: 200, state_bytes: 0 }), 200, "those that a peer lacks");
        assert_eq!(first_left(few, Lacked { first: 2, state_bytes: 0 }), 146, "or as many as 256 MiB hold");
        assert_eq!(first_left(few, Lacked { first: 2, state_bytes: 1 << 30 }), 2, "unless the state is as large");
        assert_eq!(first_left(Kept { lacked: 20, ..few }, Lacked { first: 2, state_bytes: 0 }), 381, "or so many");
    }

    #[test]
    fn what_gives_way_counts_no_more() {
        let mut view = large(1..=3, Kept::of(10));
        let one = view.bytes / 3;
        view.append(&[Entry { index: 2, term: 2, ..Entry::default() }]);
        assert_eq!(view.bytes, one + bytes_of(&Entry { index: 2, term: 2, ..Entry::default() }));
    }
}
