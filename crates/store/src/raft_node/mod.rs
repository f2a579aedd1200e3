//! The Raft member.
//!
//! ```text
//!                 proposals, reads                 batches                    durable
//! services, peers ----------------> raft thread -----------> log thread ---------------+
//!     ^                              |      ^                                          |
//!     |   answers, events, messages  |      +------------------------------------------+
//!     +------------------------------+ applies
//! ```
//!
//! While the log thread waits for the disk, the raft thread goes on: it appends what arrives
//! meanwhile (that is the next batch, one sync for all of it), sends it to the peers, who
//! write it at the same time, and answers reads, which therefore never wait for a sync.
//!
//! [`core`] decides and knows no thread; [`node`] runs it on threads. The links to peers run on the raft thread, too: no
//! other has to be woken on a message's way.
//!
//! Invariants
//! - A command is answered after it was applied, applied after it was committed, committed
//!   after a quorum's logs synced it.
//! - A message that promises something leaves once what it promises is durable; others wait for no disk.
//! - Only the raft thread changes [`State`](crate::state::State).
//! - The log is cut only behind a checkpoint that is durable.
//! - What is committed is applied whether or not this member's own log has synced it, unless it changes the members; a
//!   checkpoint waits for the log.
//! - Nothing on the raft thread takes long: peers wait for it.

mod apply;
mod checkpointer;
mod core;
mod disk;
mod effects;
mod handle;
mod log_view;
mod log_writer;
mod messages;
mod node;
mod propose;
mod ready;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod threads;

pub use core::{Arrived, Config, Input, MAX_APPLIED_BYTES, MAX_UNSAVED_BYTES, MAX_WAITING_BYTES};
pub use effects::Outgoing;
pub use handle::{Answer, Handle};
pub use log_view::{Kept, LogView};
pub use log_writer::to_log;
pub use node::{Outbound, Parts, inputs, start};
pub use propose::{MAX_PROPOSAL_BYTES, leave_joint_entry, member_change_entry};
pub use threads::RaftThread;
