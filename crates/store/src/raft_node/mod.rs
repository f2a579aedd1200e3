//! The Raft node: one thread owns the state machine and applies, one writes the log, one
//! writes checkpoints.
//!
//! ```text
//!            proposals, reads                 batches                    durable
//! services ------------------> raft thread -----------> log thread ---------------+
//!     ^                         |      ^                                          |
//!     |      answers, events    |      +------------------------------------------+
//!     +-------------------------+ applies
//! ```
//!
//! While the log thread waits for the disk, the raft thread goes on: it appends what arrives
//! meanwhile (that is the next batch, one sync for all of it) and answers reads, which
//! therefore never wait for a sync.
//!
//! Invariants
//! - A command is answered after it was applied, applied after it was committed, committed
//!   after a quorum's logs synced it.
//! - Only the raft thread changes [`State`](crate::state::State).
//! - The log is cut only behind a checkpoint that is durable.

mod apply;
mod checkpointer;
mod core;
mod handle;
mod log_view;
mod log_writer;

pub use core::{Config, start};
pub use handle::{Handle, Threads};
pub use log_view::LogView;
