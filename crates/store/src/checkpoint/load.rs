//! A checkpoint becomes a state: one thread reads and decodes records, the caller's puts them in their places.

use std::mem;
use std::panic;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use mvcc::{KeyValue, Revision};
use prost::Message;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableError};

use super::record::{Joiner, Key};
use super::redb::{HEAD, META, RECORDS, entry_bytes};
use crate::pb::kvraft;
use crate::state::State;

/// Handed over at once, so that the threads seldom wait for each other.
const BATCH: usize = 512;
/// What may be read ahead.
const BATCHES: usize = 8;

type Batch = Vec<(Revision, KeyValue)>;

/// The state, and the bytes of the records' entries; none if nothing was ever saved.
pub fn load(db: &Database) -> Result<Option<(State, u64)>> {
    let Some(head) = head(db)? else { return Ok(None) };
    let read = db.begin_read().context("cannot read the checkpoint")?;
    let records = read.open_table(RECORDS).context("cannot read the checkpoint")?;
    thread::scope(|scope| {
        let (batches, read) = sync_channel(BATCHES);
        let reader = scope.spawn(|| read_all(&records, batches));
        let state = State::restore(head, read.into_iter().flatten());
        // What could not be read is missing from the state.
        let bytes = reader.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))?;
        Ok(Some((state?, bytes)))
    })
}

/// None if nothing was ever saved.
pub fn head(db: &Database) -> Result<Option<kvraft::Head>> {
    let read = db.begin_read().context("cannot read the checkpoint")?;
    let meta = match read.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        opened => opened.context("cannot read the checkpoint")?,
    };
    let head = meta.get(HEAD)?.context("the checkpoint has no head")?;
    kvraft::Head::decode(head.value()).context("the checkpoint's head is damaged").map(Some)
}

/// Returns the bytes of the entries.
fn read_all(records: &ReadOnlyTable<Key, &'static [u8]>, batches: SyncSender<Batch>) -> Result<u64> {
    let (mut read, mut bytes) = (0, 0);
    let mut joiner = Joiner::default();
    let mut batch = Vec::with_capacity(BATCH);
    for entry in records.iter().context("cannot read the checkpoint")? {
        let (key, piece) = entry.context("cannot read the checkpoint")?;
        read += 1;
        bytes += entry_bytes(piece.value());
        batch.extend(joiner.join(key.value(), piece.value())?);
        if batch.len() == BATCH && batches.send(mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
            // The state could not be made; whoever makes it says why.
            return Ok(bytes);
        }
    }
    ensure!(read == records.len()?, "the checkpoint is damaged: it lacks records");
    let _ = batches.send(batch);
    Ok(bytes)
}
