//! A member's disk: what was synced stays, what was not may be lost at a crash, from some point on.

use std::collections::BTreeMap;
use std::sync::Arc;

use mvcc::{KeyValue, Revision};
use raftlog::{Entry, HardState, Mark, Recovered};

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
    fn write(&mut self, write: Write) {
        match write {
            Write::Append { entries, hard_state, .. } => {
                for entry in entries.into_iter().map(to_log) {
                    self.entries.retain(|known| known.index < entry.index);
                    self.entries.push(entry);
                }
                if let Some(state) = hard_state {
                    self.hard_state = HardState { term: state.term, vote: state.vote, commit: state.commit };
                }
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
}

impl Disk {
    pub fn new(state: &State) -> Disk {
        let log = Log { mark: state.applied.into(), ..Log::default() };
        Disk { log, head: Some(state.head()), ..Disk::default() }
    }

    pub fn write(&mut self, writes: Vec<Write>) {
        self.unsynced.extend(writes);
    }

    /// Begins a sync of all that waits; true if there is anything.
    pub fn begin_sync(&mut self) -> bool {
        if self.syncing > 0 || self.unsynced.is_empty() {
            return false;
        }
        self.syncing = self.unsynced.len();
        true
    }

    /// The newest ready that is durable now, if the sync held one.
    pub fn finish_sync(&mut self) -> Option<u64> {
        let mut newest = None;
        for write in self.unsynced.drain(..std::mem::take(&mut self.syncing)) {
            if let Write::Append { number, .. } = &write {
                newest = Some(*number);
            }
            self.log.write(write);
        }
        newest
    }

    pub fn begin_checkpoint(&mut self, job: Job) {
        assert!(self.job.is_none(), "one checkpoint after the other");
        self.job = Some(job);
    }

    pub fn finish_checkpoint(&mut self) -> Option<Mark> {
        let job = self.job.take()?;
        let mark = Mark { index: job.head.applied_index, term: job.head.applied_term };
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
        for write in self.unsynced.drain(..).take(kept) {
            self.log.write(write);
        }
        self.syncing = 0;
        if checkpoint_counts {
            self.finish_checkpoint();
        }
        self.job = None;
    }

    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// What a member finds that starts on this disk.
    pub fn open(&mut self) -> Result<(State, Recovered), String> {
        let head = self.head.clone().ok_or("a member without a checkpoint")?;
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
            self.log.write(Write::Jump(applied.into()));
        }
        let entries: Vec<Entry> = self.log.entries.iter().filter(|e| e.index > applied.index).cloned().collect();
        let gap = entries.iter().zip(applied.index + 1..).any(|(entry, wanted)| entry.index != wanted);
        if gap {
            return Err("the log has a gap".to_owned());
        }
        Ok((state, Recovered { hard_state: self.log.hard_state, mark: self.log.mark, entries, ..Recovered::default() }))
    }
}
