//! An embedded Raft key-value store that speaks etcd v3.
//!
//! A request's way: a [`service`] validates it, the [`raft_node`] puts it through the log
//! and applies it to the [`state`], the [`hub`] wakes the watchers it concerns.
//!
//! Invariants
//! - Acknowledged means durable: an answer to a write leaves after its entry was synced on a
//!   quorum and applied.
//! - The log is the authority. A checkpoint happens whole or not at all, and the log is cut
//!   only behind one that is durable.
//! - A linearizable read sees every write that was answered before it came, and waits for no
//!   disk.
//! - What a client may do is decided by the users and roles as of the entry that does it.
//! - A watch sees every event once, in order, whole transactions at a time.

/// A place at which a test may end the process as a power cut would, or make it wait: docs/decisions/0107.
macro_rules! failpoint {
    ($name:literal) => {
        fail::fail_point!($name, |_| -> _ { std::process::abort() })
    };
}

mod auth;
mod authority;
mod checkpoint;
mod compactor;
pub mod config;
mod convert;
mod corrupt_check;
mod data_dir;
mod disk_watch;
mod error;
mod force_new;
mod gate;
mod gather;
mod hub;
mod leader_watch;
mod lessor;
mod members;
mod metrics;
pub mod pb;
mod peer;
mod raft_node;
mod run;
mod server;
mod service;
mod shared;
mod side;
mod snapshot;
mod state;
mod token;
mod validate;

pub use data_dir::restore;
pub use run::run;
