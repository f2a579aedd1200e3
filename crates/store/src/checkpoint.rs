//! Checkpoints: the state on disk as of one log entry, so that the log behind it can go.
//!
//! A checkpoint is incremental: it writes what changed since the last one, then makes it
//! durable, then records the applied index, and makes that durable too. Only then does it
//! count. What a crash leaves between the steps is harmless: records newer than the recorded
//! head are dropped when loading, the log has them; records a compaction let go of are
//! removed only after the head that says so.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mvcc::{Changes, KeyValue, Revision};
use prost::Message;

use crate::convert;
use crate::pb::{kvraft, mvccpb};
use crate::state::State;

/// Where checkpoints are kept. One implementation serves at a time; the trait is the seam at
/// which another engine would be put in.
pub trait Checkpoint: Send {
    /// The last complete checkpoint, if there ever was one.
    fn load(&mut self) -> Result<Option<State>>;
    /// Returns once everything is durable.
    fn save(&mut self, head: &kvraft::Head, changes: Changes) -> Result<()>;
    /// As `save`, of a whole state that came from elsewhere: nothing of what was here before stays.
    fn replace(&mut self, head: &kvraft::Head, records: Vec<(Revision, Arc<KeyValue>)>) -> Result<()>;
    fn size_on_disk(&self) -> u64;
}

/// The engine's page cache. Records are read once, at the start.
const CACHE_BYTES: u64 = 1 << 20;
/// The buffer in which the engine gathers writes; it keeps several.
const IO_BUFFER_BYTES: usize = 128 << 10;
/// Records per write to the engine.
const BATCH_RECORDS: usize = 512;
const HEAD_KEY: &[u8] = b"head";

pub struct Sled {
    dir: PathBuf,
    db: sled::Db,
    records: sled::Tree,
    meta: sled::Tree,
}

impl Sled {
    pub fn open(dir: &Path) -> Result<Sled> {
        let opening = || format!("cannot open the checkpoint in {}", dir.display());
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .segment_size(IO_BUFFER_BYTES)
            .mode(sled::Mode::LowSpace)
            // Durability is decided here, not by a timer.
            .flush_every_ms(None);
        let db = config.open().with_context(opening)?;
        let records = db.open_tree("records").with_context(opening)?;
        let meta = db.open_tree("meta").with_context(opening)?;
        Ok(Sled { dir: dir.to_owned(), db, records, meta })
    }

    /// The engine's own flush ends in `sync_file_range`, which promises nothing after a power
    /// loss; so every file is synced by name, and the directories with them.
    fn sync(&self) -> Result<()> {
        self.db.flush().context("cannot flush the checkpoint")?;
        sync_tree(&self.dir)
    }

    fn write(&self, batch: &mut sled::Batch) -> Result<()> {
        let batch = std::mem::take(batch);
        self.records.apply_batch(batch).context("cannot write to the checkpoint")
    }

    fn put_all(&self, written: &[(Revision, Arc<KeyValue>)]) -> Result<()> {
        let mut batch = sled::Batch::default();
        for chunk in written.chunks(BATCH_RECORDS) {
            for (revision, kv) in chunk {
                batch.insert(&encode_revision(*revision), convert::key_value(kv).encode_to_vec());
            }
            self.write(&mut batch)?;
        }
        Ok(())
    }

    fn remove_all(&self, removed: &[Revision]) -> Result<()> {
        let mut batch = sled::Batch::default();
        for chunk in removed.chunks(BATCH_RECORDS) {
            for revision in chunk {
                batch.remove(&encode_revision(*revision));
            }
            self.write(&mut batch)?;
        }
        Ok(())
    }

    /// Removes what a crash left behind the head.
    fn remove_newer(&self, revision: i64) -> Result<()> {
        let from = encode_revision(Revision { main: revision + 1, sub: 0 });
        for key in self.records.range(from..).keys() {
            self.records.remove(key?)?;
        }
        Ok(())
    }
}

impl Checkpoint for Sled {
    fn load(&mut self) -> Result<Option<State>> {
        let Some(head) = self.meta.get(HEAD_KEY)? else {
            self.records.clear()?;
            return Ok(None);
        };
        let head = kvraft::Head::decode(&head[..]).context("the checkpoint's head is damaged")?;
        self.remove_newer(head.revision)?;
        let mut failure = None;
        let records = self.records.iter().map_while(|record| match decode_record(record) {
            Ok(record) => Some(record),
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let state = State::restore(head, records)?;
        failure.map_or(Ok(Some(state)), Err)
    }

    fn save(&mut self, head: &kvraft::Head, changes: Changes) -> Result<()> {
        self.put_all(&changes.written)?;
        self.sync()?;
        self.meta.insert(HEAD_KEY, head.encode_to_vec()).context("cannot write the checkpoint's head")?;
        self.sync()?;
        self.remove_all(&changes.removed)
    }

    fn replace(&mut self, head: &kvraft::Head, records: Vec<(Revision, Arc<KeyValue>)>) -> Result<()> {
        self.records.clear().context("cannot empty the checkpoint")?;
        self.save(head, Changes { written: records, ..Changes::default() })
    }

    fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// Revisions sort as they were taken.
fn encode_revision(revision: Revision) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&revision.main.to_be_bytes());
    key[8..].copy_from_slice(&revision.sub.to_be_bytes());
    key
}

fn decode_record(record: sled::Result<(sled::IVec, sled::IVec)>) -> Result<(Revision, KeyValue)> {
    let (key, value) = record.context("cannot read the checkpoint")?;
    ensure!(key.len() == 16, "the checkpoint holds a record under a key that is no revision");
    let number = |part: &[u8]| i64::from_be_bytes(part.try_into().expect("eight bytes"));
    let revision = Revision { main: number(&key[..8]), sub: number(&key[8..]) };
    let kv = mvccpb::KeyValue::decode(&value[..]).context("a record of the checkpoint is damaged")?;
    Ok((revision, convert::key_value_from_wire(kv)))
}

fn sync_tree(dir: &Path) -> Result<()> {
    let context = || format!("cannot sync {}", dir.display());
    for entry in fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            sync_tree(&path)?;
            continue;
        }
        match File::open(&path).and_then(|file| file.sync_all()) {
            // The engine replaces its snapshot file in the background.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            synced => synced.with_context(|| format!("cannot sync {}", path.display()))?,
        }
    }
    File::open(dir).and_then(|file| file.sync_all()).with_context(context)
}
