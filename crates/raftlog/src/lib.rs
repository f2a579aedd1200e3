//! The write-ahead log: append-only, checksummed segments, one `fdatasync` per batch.
//!
//! Invariants
//! - [`Wal::append`] returns only after the whole batch is durable; everything in it becomes
//!   visible after a crash, or nothing of it does.
//! - The next batch is written only after the last one was synced. So whatever is damaged at
//!   the very end was never acknowledged and is cut off; whatever is damaged before an intact
//!   later batch *was*, and opening refuses.
//! - Every segment begins with all it takes to read on from there (metadata, hard state,
//!   mark), so old segments can be removed whole. A segment appears under its name with its head
//!   complete: written aside, synced, renamed, its directory synced.
//! - A segment is written over a file that has its room on disk already: zeros, or a segment
//!   that is no longer needed. What lies behind its last frame is never taken for a frame.
//! - After a failed write or sync nothing more is accepted: what the disk holds is unknown.

/// A place at which a test may end the process as a power cut would, or make it wait: docs/decisions/0107.
macro_rules! failpoint {
    ($name:literal) => {
        fail::fail_point!($name, |_| -> _ { std::process::abort() })
    };
}

mod frame;
mod reader;
mod record;
mod segment;
mod spares;
mod tail;
mod wal;

use std::io;
use std::path::{Path, PathBuf};

pub use record::{Entry, HardState, Mark, Record};
pub use wal::{Options, Recovered, Wal};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is damaged at byte {offset}: {what}. Acknowledged writes follow the damage, so it \
         cannot be cut off. Check the disk; then remove the member from its cluster and add it again \
         with an empty data directory; a lone member can only be restored from a snapshot",
        path.display()
    )]
    Damaged { path: PathBuf, offset: u64, what: &'static str },
    #[error(
        "{} is missing, though segments before and after it exist: bring the file back, or remove the \
         member and add it again; a lone member can only be restored from a snapshot",
        path.display()
    )]
    MissingSegment { path: PathBuf },
    #[error(
        "the log was cut behind entry {cut}, but the checkpoint ends at entry {checkpoint}: they \
         do not belong together. Remove the member and add it again; a lone member can only be restored \
         from a snapshot"
    )]
    Gap { cut: u64, checkpoint: u64 },
    #[error("a batch of {bytes} bytes is larger than the {} a frame may hold", frame::MAX_PAYLOAD_BYTES)]
    TooLarge { bytes: usize },
    #[error("an earlier write to the log failed; the log accepts nothing more")]
    Failed,
}

/// Names the operation and the file of an IO error.
fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}
