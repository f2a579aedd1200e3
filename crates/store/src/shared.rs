//! What the raft thread, the services and the side port share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use raft::Raft;
use tokio::sync::watch;

use crate::gate::Gate;
use crate::hub::Hub;
use crate::lessor::Lessor;
use crate::metrics::Gauges;
use crate::pb::etcdserverpb as pb;
use crate::raft_node::LogView;
use crate::state::State;

pub struct Shared {
    pub cluster_id: u64,
    pub member_id: u64,
    pub state: RwLock<State>,
    pub hub: Hub,
    pub lessor: Lessor,
    pub gate: Gate,
    pub status: Status,
    pub gauges: Arc<Gauges>,
    /// Whether there has been no leader for so long that who asked for one is told.
    pub leaderless: watch::Sender<bool>,
}

impl Shared {
    pub fn new(member_id: u64, state: State, gate: Gate) -> Shared {
        gate.adopt(&state.auth);
        Shared {
            gate,
            cluster_id: state.cluster_id,
            member_id,
            hub: Hub::new(state.kv.revision()),
            lessor: Lessor::default(),
            status: Status::default(),
            gauges: Arc::default(),
            leaderless: watch::Sender::default(),
            state: RwLock::new(state),
        }
    }

    /// The header of an answer that was given at `revision`.
    pub fn header(&self, revision: i64) -> pb::ResponseHeader {
        let (cluster_id, member_id) = (self.cluster_id, self.member_id);
        pb::ResponseHeader { cluster_id, member_id, revision, raft_term: self.status.term() }
    }

    /// Completes a header that so far tells the revision only.
    pub fn complete(&self, header: &mut Option<pb::ResponseHeader>) {
        *header = Some(self.header(header.as_ref().map_or(0, |h| h.revision)));
    }

    pub fn header_now(&self) -> Option<pb::ResponseHeader> {
        Some(self.header(self.state.read().kv.revision()))
    }
}

/// Raft's view of the world, as of the last time it was driven.
#[derive(Debug, Default)]
pub struct Status {
    term: AtomicU64,
    leader: AtomicU64,
    committed: AtomicU64,
    applied: AtomicU64,
    pending: AtomicUsize,
    leader_changes: AtomicU64,
    voter: AtomicBool,
    /// From the cluster, for good.
    removed: AtomicBool,
    /// Nobody else could know of more than is applied here.
    alone: AtomicBool,
    failed: AtomicBool,
    /// Nothing is taken into the log until a checkpoint is done.
    held: AtomicBool,
    /// Whether the last one who asked for its health could not have read.
    unreadable: AtomicBool,
}

impl Status {
    pub fn set_raft(&self, raft: &Raft<LogView>) {
        self.term.store(raft.term, Ordering::Relaxed);
        self.leader.store(raft.leader_id, Ordering::Relaxed);
        self.voter.store(raft.promotable(), Ordering::Relaxed);
        self.committed.store(raft.raft_log.committed, Ordering::Relaxed);
        self.applied.store(raft.raft_log.applied, Ordering::Relaxed);
    }

    pub fn is_voter(&self) -> bool {
        self.voter.load(Ordering::Relaxed)
    }

    pub fn set_removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    pub fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    /// Whether a read of the state as it is now sees every write that was answered before.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    pub fn set_pending(&self, pending: usize) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    pub fn leader_changed(&self) {
        self.leader_changes.fetch_add(1, Ordering::Relaxed);
    }

    pub fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether that is new.
    pub fn set_held(&self, held: bool) -> bool {
        self.held.swap(held, Ordering::Relaxed) != held
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub fn set_leader(&self, id: u64) {
        self.leader.store(id, Ordering::Relaxed);
    }

    pub fn set_readable(&self, readable: bool) {
        self.unreadable.store(!readable, Ordering::Relaxed);
    }

    pub fn is_readable(&self) -> bool {
        !self.unreadable.load(Ordering::Relaxed)
    }

    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}
