//! The checkpoint in one file of redb, a copy-on-write B-tree.
//!
//! Records lie in the order of their revisions, so a checkpoint only ever appends and removes:
//! appended pages are packed full, removed ones are free for the next checkpoint. What stays
//! sparse or unused beyond a bound is given back by writing what is kept into a new file that
//! then takes the old one's name.
//!
//! ```text
//! <dir>/state.redb       the checkpoint
//! <dir>/state.redb.new   the next file, incomplete: removed when the checkpoint is opened
//! ```
//!
//! The engine checksums every page and trusts none: opening verifies the whole file, because a
//! damaged page met later would end the process without a word of what to do.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::iter::Peekable;
use std::ops::{Bound, RangeInclusive};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use mvcc::{Changes, KeyValue, Revision};
use prost::Message;
use redb::{Database, Range, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::Checkpoint;
use super::engine::{Engine, STEP_BYTES};
use super::load;
use super::record::{self, Key};
use crate::pb::kvraft;
use crate::state::State;

/// Removed in one step: about as many pages are read as stay in the engine's cache.
const REMOVED_PER_STEP: usize = 200;
/// Removed revisions this close to each other are removed in one walk over what lies between.
const MAX_GAP: i64 = 16;
/// A file larger than this share of its entries, and than the constant, is written anew.
pub const MAX_SPACE_PERCENT: u64 = 150;
const KEPT_SPACE_BYTES: u64 = 16 << 20;
/// What the engine adds to each entry: the key and where the value ends.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<(i64, i64, u32)>();
const WRITING: &str = "cannot write the checkpoint";

pub(super) const RECORDS: TableDefinition<Key, &[u8]> = TableDefinition::new("records");
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const HEAD: &str = "head";

pub struct Redb {
    path: PathBuf,
    engine: Engine,
    /// What the entries of the records take without any waste.
    entry_bytes: u64,
}

pub(super) fn entry_bytes(piece: &[u8]) -> u64 {
    u64::try_from(piece.len() + ENTRY_OVERHEAD_BYTES).expect("usize fits u64")
}

impl Redb {
    pub fn open(dir: &Path) -> Result<Redb> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join("state.redb");
        let aside = aside(&path);
        remove_if_there(&aside)?;
        let there = path.try_exists().with_context(|| format!("cannot look for {}", path.display()))?;
        let engine = if there { Engine::open(&path)? } else { take_place(Engine::open(&aside)?, &aside, &path)? };
        Ok(Redb { path, engine, entry_bytes: 0 })
    }

    #[cfg(test)]
    pub fn on(backend: impl redb::StorageBackend) -> Result<Redb> {
        Ok(Redb { path: PathBuf::new(), engine: Engine::on(backend)?, entry_bytes: 0 })
    }

    /// Writes what is kept into a new file and lets it take the old one's place.
    fn rewrite(&mut self) -> Result<()> {
        let aside = aside(&self.path);
        remove_if_there(&aside)?;
        let mut fresh = Engine::open(&aside)?;
        copy(self.engine.db(), &mut fresh).context("cannot rewrite the checkpoint")?;
        self.engine = take_place(fresh, &aside, &self.path)?;
        Ok(())
    }
}

impl Checkpoint for Redb {
    fn load(&mut self) -> Result<Option<State>> {
        let Some((state, entry_bytes)) = load::load(self.engine.db())? else {
            return Ok(None);
        };
        self.entry_bytes = entry_bytes;
        Ok(Some(state))
    }

    fn is_installed(&self) -> Result<bool> {
        Ok(load::head(self.engine.db())?.is_some_and(|head| head.installed))
    }

    fn save(&mut self, head: &kvraft::Head, changes: Changes) -> Result<()> {
        let Changes { written, mut removed, .. } = changes;
        removed.sort_unstable();
        let gone = remove(&mut self.engine, &removed)?;
        let added = append(&mut self.engine, &written)?;
        finish(&mut self.engine, head)?;
        self.entry_bytes = (self.entry_bytes + added).saturating_sub(gone);
        Ok(())
    }

    fn replace(&mut self, head: &kvraft::Head, records: &[(Revision, Arc<KeyValue>)]) -> Result<()> {
        self.engine.step(|transaction| Ok(transaction.delete_table(RECORDS)?)).context(WRITING)?;
        let added = append(&mut self.engine, records)?;
        finish(&mut self.engine, head)?;
        self.entry_bytes = added;
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        let before = self.size_on_disk();
        if before <= self.entry_bytes * MAX_SPACE_PERCENT / 100 + KEPT_SPACE_BYTES {
            return Ok(());
        }
        let start = Instant::now();
        self.rewrite()?;
        let (bytes, took_ms) = (self.size_on_disk(), start.elapsed().as_millis());
        tracing::info!(before, bytes, took_ms, "gave back space that the checkpoint no longer needs");
        Ok(())
    }

    /// What the file occupies: it is sparse beyond the pages that were ever used.
    fn size_on_disk(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.blocks() * 512)
    }
}

fn finish(engine: &mut Engine, head: &kvraft::Head) -> Result<()> {
    let last = engine.finish(|transaction| {
        // What loads looks for both tables.
        transaction.open_table(RECORDS)?;
        transaction.open_table(META)?.insert(HEAD, &head.encode_to_vec()[..])?;
        Ok(())
    });
    last.context(WRITING)
}

/// Returns the bytes of the entries.
fn append(engine: &mut Engine, written: &[(Revision, Arc<KeyValue>)]) -> Result<u64> {
    let mut bytes = 0;
    for records in by_bytes(written) {
        bytes += engine.step(|transaction| append_all(transaction, records)).context(WRITING)?;
    }
    Ok(bytes)
}

/// Parts of about [`STEP_BYTES`].
fn by_bytes(written: &[(Revision, Arc<KeyValue>)]) -> impl Iterator<Item = &[(Revision, Arc<KeyValue>)]> {
    let mut bytes = 0;
    written.chunk_by(move |(_, kv), _| {
        bytes += kv.bytes() + ENTRY_OVERHEAD_BYTES;
        let more = bytes < STEP_BYTES;
        bytes = if more { bytes } else { 0 };
        more
    })
}

fn append_all(transaction: &WriteTransaction, written: &[(Revision, Arc<KeyValue>)]) -> Result<u64> {
    let mut bytes = 0;
    let mut encoded = Vec::new();
    let mut records = transaction.open_table(RECORDS)?;
    let mut end = records.upper_bound_mut(Bound::<Key>::Unbounded)?;
    for (revision, kv) in written {
        record::encode(kv, &mut encoded);
        for (key, piece) in record::pieces(*revision, &encoded) {
            end.insert_before(key, piece).with_context(|| format!("cannot write revision {}", revision.main))?;
            bytes += entry_bytes(piece);
        }
    }
    end.close()?;
    Ok(bytes)
}

/// Takes revisions in order. Returns the bytes of the entries that went.
fn remove(engine: &mut Engine, removed: &[Revision]) -> Result<u64> {
    let mut bytes = 0;
    for part in removed.chunks(REMOVED_PER_STEP) {
        read_ahead(engine.db(), part).context(WRITING)?;
        let step = |transaction: &WriteTransaction| remove_all(&mut transaction.open_table(RECORDS)?, part);
        bytes += engine.step(step).context(WRITING)?;
    }
    Ok(bytes)
}

/// Reads what is about to be written anew. A page that is read while a step goes on takes the
/// place of one that the step has written, which then is written twice.
fn read_ahead(db: &Database, removed: &[Revision]) -> Result<()> {
    let records = db.begin_read()?.open_table(RECORDS)?;
    for run in runs(removed) {
        for entry in records.range(pieces_of(run))? {
            entry?;
        }
    }
    Ok(())
}

fn remove_all(records: &mut Table<Key, &[u8]>, removed: &[Revision]) -> Result<u64> {
    let mut bytes = 0;
    for run in runs(removed) {
        records.retain_in(pieces_of(run), |(main, sub, _), piece| {
            let goes = run.binary_search(&Revision { main, sub }).is_ok();
            bytes += if goes { entry_bytes(piece) } else { 0 };
            !goes
        })?;
    }
    Ok(bytes)
}

fn runs(removed: &[Revision]) -> impl Iterator<Item = &[Revision]> {
    removed.chunk_by(|a, b| b.main - a.main <= MAX_GAP)
}

/// The keys from the first to the last of them.
fn pieces_of(run: &[Revision]) -> RangeInclusive<Key> {
    let (first, last) = (run[0], run[run.len() - 1]);
    (first.main, first.sub, 0)..=(last.main, last.sub, u32::MAX)
}

fn copy(from: &Database, to: &mut Engine) -> Result<()> {
    let read = from.begin_read()?;
    let records = read.open_table(RECORDS)?;
    let mut entries = records.iter()?.peekable();
    while entries.peek().is_some() {
        to.step(|transaction| copy_some(&mut entries, transaction))?;
    }
    let meta = read.open_table(META)?;
    to.finish(|transaction| {
        transaction.open_table(RECORDS)?;
        let mut copied = transaction.open_table(META)?;
        for entry in meta.iter()? {
            let (key, value) = entry?;
            copied.insert(key.value(), value.value())?;
        }
        Ok(())
    })
}

/// Copies as much as a step takes.
fn copy_some(entries: &mut Peekable<Range<'_, Key, &'static [u8]>>, to: &WriteTransaction) -> Result<()> {
    let mut records = to.open_table(RECORDS)?;
    let mut end = records.upper_bound_mut(Bound::<Key>::Unbounded)?;
    let mut bytes = 0;
    for entry in entries {
        let (key, piece) = entry?;
        end.insert_before(key.value(), piece.value())?;
        bytes += piece.value().len() + ENTRY_OVERHEAD_BYTES;
        if bytes >= STEP_BYTES {
            break;
        }
    }
    end.close()?;
    Ok(())
}

/// Gives a complete, synced file the name under which it is found. So the file of that name is
/// complete at any time; one that was just being created could not be opened.
fn take_place(engine: Engine, aside: &Path, path: &Path) -> Result<Engine> {
    failpoint!("checkpoint-before-rename");
    fs::rename(aside, path).with_context(|| format!("cannot rename {}", aside.display()))?;
    sync_dir(path.parent().expect("a file lies in a directory"))?;
    Ok(engine)
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot sync {}", dir.display()))
}
