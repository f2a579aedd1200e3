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
//!
//! # Worked example
//!
//! ```
//! use bytes::Bytes;
//! use mvcc::{DeleteRange, Error, KeyRange, Put, Range, Store};
//!
//! let mut store = Store::default();
//! let key = Bytes::from("k");
//! let mut put = |store: &mut Store, value: &'static str| {
//!     let put = Put { key: key.clone(), value: Bytes::from(value), ..Put::default() };
//!     store.put(put).map(|put| put.revision)
//! };
//! // A new store is at revision 1; each transaction takes the next.
//! assert_eq!(put(&mut store, "one"), Ok(2));
//! assert_eq!(put(&mut store, "two"), Ok(3));
//! let all = DeleteRange { keys: KeyRange::all(), prev_kv: false };
//! assert_eq!((store.delete_range(&all).deleted, store.revision()), (1, 4));
//! // Nothing is left to delete: that is no change, and takes no revision.
//! assert_eq!((store.delete_range(&all).deleted, store.revision()), (0, 4));
//!
//! // What was is still there to be read, until a compaction.
//! let at = |revision: i64| Range { revision, ..Range::of(KeyRange::all()) };
//! let value = |store: &Store, revision: i64| {
//!     let found = store.range(&at(revision))?;
//!     Ok(found.kvs.first().map(|kv| kv.value.clone()))
//! };
//! assert_eq!(value(&store, 2), Ok(Some(Bytes::from("one"))));
//! assert_eq!(value(&store, 0), Ok(None));
//! store.compact(3)?;
//! assert_eq!(value(&store, 2), Err(Error::Compacted { compact_revision: 3 }));
//! assert_eq!(value(&store, 3), Ok(Some(Bytes::from("two"))));
//! # Ok::<(), Error>(())
//! ```

mod history;
mod intervals;
mod key_index;
mod kv;
mod lease;
mod range;
mod store;
mod txn;
mod watch;

pub use history::{Batch, History, Limits, Part, Transaction};
pub use key_index::KeyIndex;
pub use kv::{Event, KeyRange, KeyValue, Revision};
pub use lease::{Expiry, LEASE_BYTES, Lease, Leases};
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
