//! The multi-version key space of the store, as pure state.
//!
//! A [`Store`] maps keys to values through time: every write transaction takes the next
//! *main* revision, every change within it the next *sub* revision. Past revisions stay
//! readable, and their events watchable, until a compaction lets go of them.
//!
//! Invariants
//! - No disk, no clock, no threads: time arrives as `now_ms`, and applying the same commands
//!   in the same order gives the same state on every member.
//! - Revisions only grow. A transaction that changes nothing takes none.
//! - A command either applies whole or fails before it has changed anything.
//! - Keys and values are shared [`bytes::Bytes`]; a reader or a watcher never copies them.
//! - `compacted <= revision`; everything at or after `compacted` is readable and watchable.

mod history;
mod key_index;
mod kv;
mod lease;
mod range;
mod store;
mod txn;
mod watch;

pub use history::{Batch, History, Limits, Transaction};
pub use key_index::KeyIndex;
pub use kv::{Event, KeyRange, KeyValue, Revision};
pub use lease::{Expiry, Lease, Leases};
pub use range::{Bounds, Order, Range, RangeResult, Target};
pub use store::{Changes, DeleteRange, DeleteResult, Put, PutResult, Store};
pub use txn::{Compare, Op, OpResult, Relation, Txn, TxnResult, Value};
pub use watch::{Filter, Registry};

/// Why a command or a read was refused; nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("required revision has been compacted")]
    Compacted { compact_revision: i64 },
    #[error("required revision is a future revision")]
    FutureRevision,
    #[error("key not found")]
    KeyNotFound,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
}
