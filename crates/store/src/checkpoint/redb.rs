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
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use mvcc::{Changes, KeyValue, Revision};
use prost::Message;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::Checkpoint;
use super::load;
use super::record::{self, Key};
use crate::pb::kvraft;
use crate::state::State;

/// The engine's page cache and write buffer. Records are read once, at the start.
const CACHE_BYTES: usize = 4 << 20;
/// Removed revisions this close to each other are removed in one walk over what lies between.
const MAX_GAP: i64 = 64;
/// A file larger than this share of its entries, and than the constant, is written anew.
pub const MAX_SPACE_PERCENT: u64 = 150;
const KEPT_SPACE_BYTES: u64 = 16 << 20;
/// What the engine adds to each entry: the key and where the value ends.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<(i64, i64, u32)>();

pub(super) const RECORDS: TableDefinition<Key, &[u8]> = TableDefinition::new("records");
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const HEAD: &str = "head";

pub struct Redb {
    path: PathBuf,
    db: Database,
    /// What the entries of the records take without any waste.
    entry_bytes: u64,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(true);
    builder
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
        let db = if there { open_file(&path)? } else { take_place(open_file(&aside)?, &aside, &path)? };
        Ok(Redb { path, db, entry_bytes: 0 })
    }

    #[cfg(test)]
    pub fn on(backend: impl redb::StorageBackend) -> Result<Redb> {
        Ok(Redb { path: PathBuf::new(), db: builder().create_with_backend(backend)?, entry_bytes: 0 })
    }

    /// One transaction: what `body` does happens whole or not at all.
    fn write<T>(&self, body: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        write(&self.db, body).context("cannot write the checkpoint")
    }

    /// Writes what is kept into a new file and lets it take the old one's place.
    fn rewrite(&mut self) -> Result<()> {
        let aside = aside(&self.path);
        remove_if_there(&aside)?;
        let fresh = open_file(&aside)?;
        write(&fresh, |transaction| copy(&self.db, transaction)).context("cannot rewrite the checkpoint")?;
        self.db = take_place(fresh, &aside, &self.path)?;
        Ok(())
    }
}

impl Checkpoint for Redb {
    fn load(&mut self) -> Result<Option<State>> {
        let Some((state, entry_bytes)) = load::load(&self.db)? else {
            return Ok(None);
        };
        self.entry_bytes = entry_bytes;
        Ok(Some(state))
    }

    fn is_installed(&self) -> Result<bool> {
        Ok(load::head(&self.db)?.is_some_and(|head| head.installed))
    }

    fn save(&mut self, head: &kvraft::Head, changes: Changes) -> Result<()> {
        let Changes { written, mut removed } = changes;
        removed.sort_unstable();
        let (added, gone) = self.write(|transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            let gone = remove(&mut records, &removed)?;
            let added = append(&mut records, &written)?;
            put_head(transaction, head)?;
            Ok((added, gone))
        })?;
        self.entry_bytes = (self.entry_bytes + added).saturating_sub(gone);
        Ok(())
    }

    fn replace(&mut self, head: &kvraft::Head, records: &[(Revision, Arc<KeyValue>)]) -> Result<()> {
        self.entry_bytes = self.write(|transaction| {
            transaction.delete_table(RECORDS)?;
            let added = append(&mut transaction.open_table(RECORDS)?, records)?;
            put_head(transaction, head)?;
            Ok(added)
        })?;
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

fn write<T>(db: &Database, body: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
    let transaction = db.begin_write()?;
    let done = body(&transaction)?;
    failpoint!("checkpoint-before-commit");
    transaction.commit()?;
    Ok(done)
}

fn put_head(transaction: &WriteTransaction, head: &kvraft::Head) -> Result<()> {
    transaction.open_table(META)?.insert(HEAD, &head.encode_to_vec()[..])?;
    Ok(())
}

/// Returns the bytes of the entries.
fn append(records: &mut Table<Key, &[u8]>, written: &[(Revision, Arc<KeyValue>)]) -> Result<u64> {
    let mut bytes = 0;
    let mut encoded = Vec::new();
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
fn remove(records: &mut Table<Key, &[u8]>, removed: &[Revision]) -> Result<u64> {
    let mut bytes = 0;
    for run in removed.chunk_by(|a, b| b.main - a.main <= MAX_GAP) {
        let (first, last) = (run[0], run[run.len() - 1]);
        let range = (first.main, first.sub, 0)..=(last.main, last.sub, u32::MAX);
        records.retain_in(range, |(main, sub, _), piece| {
            let goes = run.binary_search(&Revision { main, sub }).is_ok();
            bytes += if goes { entry_bytes(piece) } else { 0 };
            !goes
        })?;
    }
    Ok(bytes)
}

fn copy(from: &Database, to: &WriteTransaction) -> Result<()> {
    let read = from.begin_read()?;
    let mut records = to.open_table(RECORDS)?;
    let mut end = records.upper_bound_mut(Bound::<Key>::Unbounded)?;
    for entry in read.open_table(RECORDS)?.iter()? {
        let (key, piece) = entry?;
        end.insert_before(key.value(), piece.value())?;
    }
    end.close()?;
    let mut meta = to.open_table(META)?;
    for entry in read.open_table(META)?.iter()? {
        let (key, value) = entry?;
        meta.insert(key.value(), value.value())?;
    }
    Ok(())
}

fn open_file(path: &Path) -> Result<Database> {
    builder().create(path).with_context(|| {
        format!(
            "cannot open the checkpoint {}. If it is damaged, check the disk; then restore the member's data \
             directory from a snapshot, or empty it and let the member join its cluster again",
            path.display()
        )
    })
}

/// Gives a complete, synced file the name under which it is found. So the file of that name is
/// complete at any time; one that was just being created could not be opened.
fn take_place(db: Database, aside: &Path, path: &Path) -> Result<Database> {
    failpoint!("checkpoint-before-rename");
    fs::rename(aside, path).with_context(|| format!("cannot rename {}", aside.display()))?;
    sync_dir(path.parent().expect("a file lies in a directory"))?;
    Ok(db)
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
