//! The engine's file, written in steps of which the last makes all of them durable at once.
//!
//! At the end of a transaction redb reads and writes again each of its pages that did not stay in
//! the cache: a checkpoint of 20 MB in one transaction wrote 50. So a checkpoint is many
//! transactions, each of which fits the cache, and only the last is a durable one: until then a
//! crash leaves the file as it was.

use std::mem;
use std::path::Path;

use anyhow::{Context, Result};
use redb::{Builder, Database, Durability, WriteTransaction};

/// Pages that were read, and at most half of it those that are to be written.
const CACHE_BYTES: usize = 4 << 20;
/// Of entries, in one step: with what the engine adds still far less than may wait to be written.
pub const STEP_BYTES: usize = 512 << 10;

pub struct Engine {
    /// There until it is dropped.
    db: Option<Database>,
    /// Steps were taken since the last that was durable.
    halfway: bool,
}

impl Engine {
    pub fn open(path: &Path) -> Result<Engine> {
        let db = builder().create(path).with_context(|| {
            format!(
                "cannot open the checkpoint {}. If it is damaged, check the disk; then remove the member from its cluster \
                 and add it again with an empty data directory; a lone member can only be restored from a snapshot",
                path.display()
            )
        })?;
        Ok(Engine::of(db))
    }

    #[cfg(test)]
    pub fn on(backend: impl redb::StorageBackend) -> Result<Engine> {
        Ok(Engine::of(builder().create_with_backend(backend)?))
    }

    fn of(db: Database) -> Engine {
        Engine { db: Some(db), halfway: false }
    }

    pub fn db(&self) -> &Database {
        self.db.as_ref().expect("taken by drop only")
    }

    /// A part of what [`Engine::finish`] makes durable.
    pub fn step<T>(&mut self, body: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        self.write(Durability::None, body)
    }

    /// The last part: with it, all of them are on the disk.
    pub fn finish<T>(&mut self, body: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        let done = self.write(Durability::Immediate, body)?;
        self.halfway = false;
        Ok(done)
    }

    fn write<T>(&mut self, durability: Durability, body: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        self.halfway = true;
        let mut transaction = self.db().begin_write()?;
        transaction.set_durability(durability)?;
        let done = body(&transaction)?;
        failpoint!("checkpoint-before-commit");
        transaction.commit()?;
        Ok(done)
    }
}

impl Drop for Engine {
    /// Closing the file makes every step durable. After a failure between two that would leave half a checkpoint, so
    /// then the file stays as a crash leaves it.
    fn drop(&mut self) {
        if self.halfway {
            mem::forget(self.db.take());
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(true);
    builder
}
