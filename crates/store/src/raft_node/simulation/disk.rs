//! A member's disk: what was synced stays, what was not may be lost at a crash, from some point on.

use std::collections::BTreeMap;
use std::sync::Arc;

use mvcc::{KeyValue, Revision};
use raftlog::{Entry, HardState, Mark, Recovered};

use super::plant::Plant;
use crate::pb::kvraft::Head;
use crate::raft_node::effects::{Job, Write};
use crate::raft_node::log_writer::to_log;
use crate::state::State;

/// The log as opening it would find it.
#[derive(Default, Clone)]
struct Log {
    hard_state: HardState,
    mark: Mark,
    entries: Vec<Entry>,
}

impl Log {
    fn write(&mut self, write: Write, plant: Option<Plant>) {
        match write {
            Write::Append { entries, hard_state, .. } => {
                if let Some(first) = entries.first() {
                    self.entries.truncate(self.entries.partition_point(|known| known.index < first.index));
                }
                self.entries.extend(entries.into_iter().map(to_log));
                let HardState { term, vote, commit } = self.hard_state;
                let vote = if plant == Some(Plant::ForgetVote) { vote } else { hard_state.vote };
                let commit = if plant == Some(Plant::ForgetCommit) { commit } else { hard_state.commit };
                self.hard_state = HardState { term: hard_state.term.max(term), vote, commit };
            }
            Write::Cut(mark) => {
                self.mark = mark;
                self.entries.retain(|entry| entry.index > mark.index);
            }
            Write::Jump(mark) => {
                self.mark = mark;
                self.entries.clear();
            }
        }
    }
}

#[derive(Default)]
pub struct Disk {
    log: Log,
    head: Option<Head>,
    records: BTreeMap<Revision, Arc<KeyValue>>,
    /// Written, not durable; the first `syncing` of them are being synced.
    unsynced: Vec<Write>,
    syncing: usize,
    job: Option<Job>,
    pub plant: Option<Plant>,
}

impl Disk {
    pub fn new(state: &State, plant: Option<Plant>) -> Disk {
        let log = Log { mark: state.applied.into(), ..Log::default() };
        Disk { log, head: Some(state.head()), plant, ..Disk::default() }
    }

    pub fn write(&mut self, write: Write) {
        self.unsynced.push(write);
    }

    /// Begins a sync of all that waits; true if there is anything.
    pub fn begin_sync(&mut self) -> bool {
        if self.syncing > 0 || self.unsynced.is_empty() {
            return false;
        }
        self.syncing = self.unsynced.len();
        true
    }

    /// The newest ready that waits or is being synced.
    pub fn newest_unsynced(&self) -> Option<u64> {
        newest(&self.unsynced)
    }

    /// The newest ready that is durable now, if the sync held one.
    pub fn finish_sync(&mut self) -> Option<u64> {
        let syncing = std::mem::take(&mut self.syncing);
        if self.plant == Some(Plant::LyingDisk) {
            // Half of it is written only with what comes next.
            let synced = newest(&self.unsynced[..syncing]);
            self.drain(syncing / 2);
            return synced;
        }
        let synced = newest(&self.unsynced[..syncing]);
        self.drain(syncing);
        synced
    }

    fn drain(&mut self, writes: usize) {
        for write in self.unsynced.drain(..writes) {
            self.log.write(write, self.plant);
        }
    }

    pub fn begin_checkpoint(&mut self, job: Job) {
        if self.plant == Some(Plant::CheckpointBeforeSync) {
            // The one before, which was believed to be there, is by now.
            self.finish_checkpoint();
        }
        assert!(self.job.is_none(), "one checkpoint after the other");
        if self.plant == Some(Plant::CutBeforeCheckpoint) && !job.whole {
            self.log.write(Write::Cut(mark_of(&job)), self.plant);
        }
        self.job = Some(job);
    }

    /// The checkpoint under way, as if it were durable.
    pub fn promised_checkpoint(&self) -> Option<Mark> {
        self.job.as_ref().map(mark_of)
    }

    pub fn finish_checkpoint(&mut self) -> Option<Mark> {
        let job = self.job.take()?;
        let mark = mark_of(&job);
        if job.whole {
            self.records.clear();
        }
        self.records.extend(job.changes.written);
        for gone in &job.changes.removed {
            self.records.remove(gone);
        }
        self.head = Some(job.head);
        Some(mark)
    }

    /// Of what was not synced, `kept` writes reach the disk all the same. A checkpoint under way counts or does not.
    pub fn crash(&mut self, kept: usize, checkpoint_counts: bool) {
        self.drain(kept);
        self.unsynced.clear();
        self.syncing = 0;
        if checkpoint_counts {
            self.finish_checkpoint();
        }
        self.job = None;
    }

    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    fn checkpointed(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.applied_index)
    }

    /// Whether the entry would be there after a crash.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        let entry = self.log.entries.binary_search_by_key(&index, |entry| entry.index);
        index <= self.checkpointed() || entry.is_ok_and(|at| self.log.entries[at].term == term)
    }

    pub fn last_index(&self) -> u64 {
        let last = self.log.entries.last().map_or(self.log.mark.index, |entry| entry.index);
        last.max(self.checkpointed())
    }

    /// Term and vote as they would be after a crash.
    pub fn voted(&self) -> (u64, u64) {
        (self.log.hard_state.term, self.log.hard_state.vote)
    }

    /// What would be known to be committed after a crash.
    pub fn committed(&self) -> u64 {
        self.log.hard_state.commit.max(self.checkpointed())
    }

    /// What a member finds that starts on this disk.
    pub fn open(&mut self) -> Result<(State, Recovered), String> {
        let mut head = self.head.clone().ok_or("a member without a checkpoint")?;
        if self.plant == Some(Plant::RevisionFromRecords) {
            self.records.retain(|_, kv| !kv.is_tombstone());
            head.revision = self.records.last_key_value().map_or(1, |(at, _)| at.main);
            head.compact_revision = head.compact_revision.min(head.revision);
        }
        let records = self.records.iter().map(|(at, kv)| (*at, KeyValue::clone(kv)));
        let state = State::restore(head, records).map_err(|error| error.to_string())?;
        let applied = state.applied;
        if self.log.mark.index > applied.index {
            return Err(format!(
                "the log was cut behind {}, the checkpoint ends at {}",
                self.log.mark.index, applied.index
            ));
        }
        let last = self.log.entries.last().map_or(self.log.mark.index, |e| e.index);
        if last < applied.index {
            if !self.head.as_ref().is_some_and(|head| head.installed) {
                return Err(format!("the log ends at {last}, the checkpoint has {}", applied.index));
            }
            self.log.write(Write::Jump(applied.into()), self.plant);
        }
        let entries: Vec<Entry> = self.log.entries.iter().filter(|e| e.index > applied.index).cloned().collect();
        let gap = entries.iter().zip(applied.index + 1..).any(|(entry, wanted)| entry.index != wanted);
        if gap {
            return Err("the log has a gap".to_owned());
        }
        Ok((state, Recovered { hard_state: self.log.hard_state, mark: self.log.mark, entries, ..Recovered::default() }))
    }
}

fn newest(writes: &[Write]) -> Option<u64> {
    writes.iter().rev().find_map(|write| match write {
        Write::Append { number, .. } => Some(*number),
        Write::Cut(_) | Write::Jump(_) => None,
    })
}

fn mark_of(job: &Job) -> Mark {
    Mark { index: job.head.applied_index, term: job.head.applied_term }
}
