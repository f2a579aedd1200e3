//! Checkpoints: the state on disk as of one log entry, so that the log behind it can go.
//!
//! A checkpoint is incremental: it writes what changed since the last one, removes what a
//! compaction let go of and records the applied index, all made durable by one commit of the engine.
//! So a crash at any point leaves the last checkpoint or the new one, never a mixture, and the
//! log still holds everything behind either.
//!
//! Invariants
//! - `save` and `replace` return after the engine has synced its file.
//! - A damaged file is refused when it is opened, not believed.
//! - The file is at most [`redb::MAX_SPACE_PERCENT`] of what it holds, plus a constant, after
//!   each `tidy`.

mod engine;
mod load;
mod record;
mod redb;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::Result;
use mvcc::{Changes, KeyValue, Revision};

pub use self::redb::Redb;
use crate::pb::kvraft;
use crate::state::State;

/// Where checkpoints are kept. One implementation serves at a time; the trait is the seam at
/// which another engine would be put in.
pub trait Checkpoint: Send {
    /// The last complete checkpoint, if there ever was one.
    fn load(&mut self) -> Result<Option<State>>;
    /// Whether the last one was a snapshot from another member, behind which the log had to begin anew.
    fn is_installed(&self) -> Result<bool>;
    /// Brings the checkpoint up to date; returns once that is durable. Whatever was written
    /// must be newer than everything saved before.
    fn save(&mut self, head: &kvraft::Head, changes: Changes) -> Result<()>;
    /// Puts another state in the place of all that was saved; returns once that is durable.
    fn replace(&mut self, head: &kvraft::Head, records: &[(Revision, Arc<KeyValue>)]) -> Result<()>;
    /// Gives space back if too much of it is unused. May take as long as writing everything
    /// that is kept, so it is called when nobody waits.
    fn tidy(&mut self) -> Result<()>;
    fn size_on_disk(&self) -> u64;
}
