//! The log thread: writes what Raft wants durable, one sync for all that waits.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::prelude::{Entry, HardState};
use raftlog::{Record, Wal};
use tokio::sync::mpsc::UnboundedSender;

use super::core::Input;
use super::effects::Write;
use crate::metrics::Gauges;

/// A batch is not made larger than this by what waits behind it.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// A sync that takes longer is said in the log.
const SLOW_SYNC_MS: u128 = 1_000;
/// One that takes longer is by a disk that hangs, until it ends.
const MAY_TAKE: Duration = Duration::from_secs(2);

pub struct LogWriter {
    pub wal: Wal,
    pub writes: Receiver<Write>,
    pub inputs: UnboundedSender<Input>,
    pub gauges: Arc<Gauges>,
}

impl LogWriter {
    /// Runs until the raft thread is gone, or the disk fails.
    pub fn run(mut self) {
        if let Err(error) = self.write_all() {
            // The receiver may be gone already; then nobody is left to tell.
            let _ = self.inputs.send(Input::Failed(error.into()));
        }
    }

    fn write_all(&mut self) -> Result<(), raftlog::Error> {
        while let Ok(first) = self.writes.recv() {
            let mut records = Vec::new();
            let mut newest = None;
            let mut last = None;
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(write) = next {
                match write {
                    Write::Append { number, entries, hard_state } => {
                        bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
                        records.extend(entries.into_iter().map(entry_record));
                        newest = Some((number, hard_state));
                    }
                    // Both end the batch: they speak of what was written before them.
                    Write::Cut(_) | Write::Jump(_) => {
                        last = Some(write);
                        break;
                    }
                }
                next = (bytes < MAX_BATCH_BYTES).then(|| self.writes.try_recv().ok()).flatten();
            }
            if let Some((number, hard_state)) = newest {
                // Of several only the last counts: the batch is kept whole or not at all.
                records.push(state_record(&hard_state));
                self.append(&records)?;
                // Without a raft thread the next `recv` ends this one.
                let _ = self.inputs.send(Input::Persisted { number });
            }
            match last {
                Some(Write::Cut(mark)) => {
                    let removed = self.gauges.log_disk.during(MAY_TAKE, || self.wal.cut(mark))?;
                    tracing::debug!(index = mark.index, removed, "the log was cut behind a checkpoint");
                }
                Some(Write::Jump(mark)) => {
                    self.gauges.log_disk.during(MAY_TAKE, || self.wal.jump(mark))?;
                    tracing::debug!(index = mark.index, "the log begins anew behind a snapshot");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn append(&mut self, records: &[Record]) -> Result<(), raftlog::Error> {
        let start = Instant::now();
        self.gauges.log_disk.during(MAY_TAKE, || self.wal.append(records))?;
        let took = start.elapsed();
        self.gauges.syncs.observe(took);
        self.gauges.set_log_bytes(self.wal.appended_bytes());
        if took.as_millis() > SLOW_SYNC_MS {
            tracing::warn!(took_ms = took.as_millis(), records = records.len(), "slow fdatasync");
        }
        Ok(())
    }
}

fn entry_record(entry: Entry) -> Record {
    Record::Entry(to_log(entry))
}

pub fn to_log(entry: Entry) -> raftlog::Entry {
    raftlog::Entry {
        index: entry.index,
        term: entry.term,
        kind: u8::try_from(entry.entry_type).expect("Raft has three kinds of entries"),
        context: Bytes::from(entry.context),
        data: Bytes::from(entry.data),
    }
}

pub fn entry_from_log(entry: raftlog::Entry) -> Entry {
    Entry {
        index: entry.index,
        term: entry.term,
        entry_type: i32::from(entry.kind),
        context: entry.context.into(),
        data: entry.data.into(),
        ..Entry::default()
    }
}

fn state_record(state: &HardState) -> Record {
    Record::HardState(raftlog::HardState { term: state.term, vote: state.vote, commit: state.commit })
}
