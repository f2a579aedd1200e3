//! What a member wants done. Writes are carried out in order; messages may leave before the writes beside them are
//! durable, the core has kept back those that may not. Deliveries are made in order.

use std::sync::Arc;

use mvcc::{Changes, KeyValue, Revision, Transaction};
use raft::prelude::{Entry, HardState, Message};
use raftlog::Mark;
use tokio::sync::oneshot;

use super::handle::Answer;
use crate::hub::Hub;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::Head;
use crate::state::State;

pub enum Write {
    /// Entries and state of the ready `number`.
    Append { number: u64, entries: Vec<Entry>, hard_state: HardState },
    /// Everything up to here is in a durable checkpoint.
    Cut(Mark),
    /// A durable checkpoint took the place of everything written so far.
    Jump(Mark),
}

/// A checkpoint to be written.
pub struct Job {
    pub head: Head,
    pub changes: Changes,
    /// The changes are the whole state: what an earlier checkpoint held goes.
    pub whole: bool,
    /// The state that this one takes the place of: to let go of a large one takes time.
    pub replaced: Option<Box<State>>,
}

/// The state for a peer that lags too far behind, with the message that announces it.
pub struct Outgoing {
    pub message: Message,
    pub captured: Arc<Captured>,
}

/// The whole state as of one entry.
pub struct Captured {
    pub head: Head,
    pub records: Vec<(Revision, Arc<KeyValue>)>,
}

/// What those who wait outside are told.
pub enum Delivery {
    /// Commands were applied. Watches are marked first, so that whoever is answered may rely on the marks; they are woken
    /// last, because what a thread wakes last it runs first, and events have further to go than answers.
    Applied { transactions: Vec<Transaction>, revision: i64, answers: Vec<(oneshot::Sender<Answer>, Answer)> },
    /// A snapshot took the place of the state.
    Jumped { revision: i64 },
    /// The state is as new as these reads want it.
    Readable(Vec<oneshot::Sender<()>>),
}

impl Delivery {
    /// Whoever gave up waiting is not interested.
    pub fn deliver(self, hub: &Hub) {
        match self {
            Delivery::Applied { transactions, revision, answers } => {
                let unaware = hub.publish(&transactions, revision);
                for (asker, answer) in answers {
                    let _ = asker.send(answer);
                }
                unaware.wake();
            }
            Delivery::Jumped { revision } => hub.jump(revision),
            Delivery::Readable(readers) => {
                for reader in readers {
                    let _ = reader.send(());
                }
            }
        }
    }
}

#[derive(Default)]
pub struct Effects {
    pub writes: Vec<Write>,
    pub deliveries: Vec<Delivery>,
    pub messages: Vec<Message>,
    pub snapshots: Vec<Outgoing>,
    /// Nobody wants the snapshots any more that this member was sending as leader.
    pub deposed: bool,
    pub jobs: Vec<Job>,
    /// The members as they are now, when they have changed.
    pub members: Option<Vec<pb::Member>>,
    /// This member was removed from its cluster.
    pub removed: bool,
}
