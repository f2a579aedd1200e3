//! What Raft has ready: entries to write, messages to send, commands to apply, snapshots to install.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use raft::prelude::{Entry, EntryType, HardState, Message, MessageType, Ready};
use raft::{RawNode, StateRole};
use raftlog::Mark;
use tokio::sync::OwnedMutexGuard;

use super::core::{Arrived, Asked, Core, Read, context_id};
use super::effects::{Captured, Delivery, Job, Outgoing, Write};
use super::log_view::{LogView, bytes_of};
use super::propose::Pending;
use crate::auth::attributed;
use crate::error::Refusal;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{DeleteRangeRequest, TxnRequest};
use crate::pb::kvraft::Head;
use crate::pb::kvraft::command::Op;
use crate::state::Applied;

/// What waits until the checkpoint of a snapshot is durable.
pub struct Install {
    mark: Mark,
    number: u64,
    entries: Vec<Entry>,
    hard_state: HardState,
    /// Later writes: the log goes on behind the snapshot.
    after: Vec<Write>,
    turn: Option<OwnedMutexGuard<()>>,
}

/// Of members.
pub(super) fn is_change(entry: &Entry) -> bool {
    entry.entry_type() != EntryType::EntryNormal
}

/// What the log is told of how far entries are committed, and what of that is durable.
#[derive(Default)]
pub struct Commits {
    told: u64,
    pub durable: u64,
    /// The ready and the commit index of each write under way.
    under_way: VecDeque<(u64, u64)>,
}

impl Commits {
    pub fn recovered(commit: u64) -> Self {
        Self { told: commit, durable: commit, under_way: VecDeque::new() }
    }

    /// Whether the log would hear for the first time that an entry is committed.
    fn settles(&self, index: u64, commit: u64) -> bool {
        self.told < index && index <= commit
    }

    fn told(&mut self, number: u64, commit: u64) {
        self.told = commit;
        self.under_way.push_back((number, commit));
    }

    pub fn persisted(&mut self, number: u64) {
        while let Some((_, commit)) = self.under_way.pop_front_if(|(of, _)| *of <= number) {
            self.durable = commit;
        }
    }
}

/// Whether what a follower says may be heard before its log is durable: that the leader is heard, and what is asked of the
/// leader. It promises nothing that could be forgotten, and reads must not wait for a disk.
fn promises_nothing(message: &Message) -> bool {
    use MessageType::{MsgHeartbeatResponse, MsgPropose, MsgReadIndex, MsgTransferLeader};
    matches!(message.msg_type(), MsgHeartbeatResponse | MsgPropose | MsgReadIndex | MsgTransferLeader)
}

impl Core {
    pub(super) fn handle_ready(&mut self) -> Result<()> {
        while !self.defers() && self.within(self.reach(), |node| node.has_ready()) {
            if self.is_checkpointing() && self.node.snap().is_some() {
                // One checkpoint after the other.
                return Ok(());
            }
            let ready = self.within(self.reach(), RawNode::ready);
            self.handle_one(ready)?;
        }
        self.capture_if_wanted();
        self.shared.status.set_raft(&self.node.raft);
        self.shared.status.set_alone(self.leads_alone());
        Ok(())
    }

    /// Whether nobody else could have answered, or been told, what is not applied here: a lone leader has applied all that
    /// was answered before its term once something of its term is, and all that one who was removed was told of once nothing
    /// is committed that is not applied. When another member comes, it is told so after this has changed.
    fn leads_alone(&self) -> bool {
        let raft = &self.node.raft;
        let applied = self.shared.state.read().applied;
        let leads = raft.state == StateRole::Leader && applied.term == raft.term;
        self.alone() && leads && applied.index == raft.raft_log.committed
    }

    /// What a quorum has is committed, whether or not this member's own disk has it, and reads must not wait for that. Raft
    /// hands out no more than its `persisted`, which is moved for the moment.
    pub(super) fn within<T>(&mut self, reach: u64, act: impl FnOnce(&mut RawNode<LogView>) -> T) -> T {
        let persisted = std::mem::replace(&mut self.node.raft.raft_log.persisted, reach);
        let done = act(&mut self.node);
        self.node.raft.raft_log.persisted = persisted;
        done
    }

    /// How far entries may be applied: to where Raft has handed them to the log, and not up to a change of members before it
    /// is on disk that it is committed. One that forgot that with a crash would count another quorum than it has acted on,
    /// and could wait for members that are gone. Nothing behind a snapshot that is not in place.
    fn reach(&self) -> u64 {
        let log = &self.node.raft.raft_log;
        if self.unapplied.is_some() || self.node.snap().is_some() {
            return log.persisted;
        }
        let handed = log.committed.min(log.unstable.offset.saturating_sub(1));
        let unsure = self.changes.iter().filter(|index| **index > self.commits.durable).min();
        unsure.map_or(handed, |index| handed.min(index - 1))
    }

    fn handle_one(&mut self, mut ready: Ready) -> Result<()> {
        let number = ready.number();
        self.newest = number;
        if let Some((role, leader)) = ready.ss().map(|ss| (ss.raft_state, ss.leader_id)) {
            self.role_changed(role, leader);
        }
        for state in ready.take_read_states() {
            let id = context_id(&state.request_ctx);
            let asked = id.and_then(|id| self.asked.remove(&id));
            if let Some(Asked { at_ms, waiting, .. }) = asked {
                self.reads.push(Read { index: state.index, asked_ms: at_ms, waiting });
            }
        }
        let messages = self.forward(ready.take_messages());
        let (free, promises) = self.forward(ready.take_persisted_messages()).into_iter().partition(promises_nothing);
        let snapshot = Some(ready.snapshot()).filter(|s| !s.is_empty()).and_then(|s| s.metadata.clone());
        let entries = ready.take_entries();
        let changed = ready.hs().cloned();
        let committed = ready.take_committed_entries();
        let must_sync = ready.must_sync();
        let durable = self.commits.durable;
        self.changes.retain(|index| *index > durable);
        self.changes.extend(entries.iter().filter(|entry| is_change(entry)).map(|entry| entry.index));
        let view = self.node.mut_store();
        if let Some(metadata) = &snapshot {
            view.restore(metadata);
        }
        view.append(&entries);
        if let Some(state) = changed {
            let known = view.hard_state();
            if (known.term, known.vote) != (state.term, state.vote) {
                self.voted = number;
            }
            view.set_hard_state(state);
        }
        // Whoever keeps an entry keeps what was known to be committed by then. One that forgot, and lost its later
        // configurations with it, could be elected by members that were removed.
        let hard_state = view.hard_state().clone();
        // Beside those, only what waits for it has the commit index written.
        let settles = self.changes.iter().any(|index| self.commits.settles(*index, hard_state.commit));
        self.node.advance_append_async(ready);
        self.send(free);
        // A lone voter leads before its vote for itself is on its disk. Ended now, it could lead the same term again, with
        // other entries: nobody may have heard of these.
        let sure = self.voted < number && self.voted <= self.durable();
        if sure {
            self.send(messages);
        } else {
            self.hold(number, messages);
        }
        self.hold(number, promises);
        match snapshot {
            Some(metadata) => {
                let mark = Mark { index: metadata.index, term: metadata.term };
                self.written = number;
                self.commits.told(number, hard_state.commit);
                return self.install(Install { mark, number, entries, hard_state, after: Vec::new(), turn: None });
            }
            None if must_sync || settles => {
                self.commits.told(number, hard_state.commit);
                self.write(Write::Append { number, entries, hard_state });
                self.written = number;
            }
            None if self.persisted == self.written => {
                // Nothing to sync and nothing under way: Raft may forget about it at once.
                self.node.on_persist_ready(number);
                self.release_held();
            }
            None => {}
        }
        if !self.effects.messages.is_empty() && self.may_take_long(&committed) {
            // Who leads tells the others first: then all are busy at once, and nobody takes it for gone.
            self.deferred = committed;
            return Ok(());
        }
        self.apply(committed)
    }

    fn write(&mut self, write: Write) {
        match &mut self.installing {
            Some(install) => install.after.push(write),
            None => self.give(write),
        }
    }

    fn give(&mut self, write: Write) {
        if let Write::Append { number, entries, .. } = &write {
            let bytes = entries.iter().map(bytes_of).sum();
            self.disk.given(*number, bytes, self.ticks);
        }
        self.effects.writes.push(write);
    }

    /// Of a leader's own: one that changes as many keys as there are.
    fn may_take_long(&self, committed: &[Entry]) -> bool {
        committed.iter().filter_map(|entry| self.pending.get(&context_id(&entry.context)?)).any(|pending| {
            match attributed(&pending.proposal.op) {
                Some(Op::DeleteRange(request)) => is_wide(request),
                Some(Op::Txn(txn)) => deletes_widely(txn),
                Some(Op::Compaction(_)) => true,
                _ => false,
            }
        })
    }

    fn hold(&mut self, number: u64, messages: Vec<Message>) {
        if !messages.is_empty() {
            self.held.push_back((number, messages));
        }
    }

    /// The newest ready of which everything is durable.
    fn durable(&self) -> u64 {
        if self.persisted == self.written { self.newest } else { self.persisted }
    }

    /// Everything that this promises is durable.
    pub(super) fn release_held(&mut self) {
        let durable = self.durable();
        while self.held.front().is_some_and(|(number, _)| *number <= durable) {
            let (_, messages) = self.held.pop_front().expect("looked at above");
            self.send(messages);
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            if message.msg_type() != MessageType::MsgSnapshot {
                self.effects.messages.push(message);
                continue;
            }
            match self.node.store().captured() {
                Some(captured) => self.effects.snapshots.push(Outgoing { captured, message }),
                None => self.node.report_snapshot(message.to, raft::SnapshotStatus::Failure),
            }
        }
    }

    /// Raft was refused a snapshot because there was none yet; the next time there is.
    fn capture_if_wanted(&mut self) {
        let view = self.node.mut_store();
        if !view.wants_snapshot() {
            return;
        }
        let state = self.shared.state.read();
        view.set_captured(Captured { head: state.head(), records: state.kv.records() });
    }

    /// The snapshot's state takes the place of this member's at once; it is promised once its checkpoint is durable.
    fn install(&mut self, install: Install) -> Result<()> {
        let arrived = self.arrived_snapshot.take().filter(|(mark, _)| *mark == install.mark);
        let (_, Arrived { state, turn }) = arrived.context("Raft took a snapshot that has not arrived")?;
        let install = Install { turn, ..install };
        let head = Head { installed: true, ..state.head() };
        let (written, written_bytes) = (state.kv.records(), state.kv.size_bytes());
        let changes = mvcc::Changes { written, written_bytes, ..mvcc::Changes::default() };
        let revision = state.kv.revision();
        tracing::info!(index = install.mark.index, revision, "installing a snapshot from the leader");
        self.effects.members = Some(state.members.values().cloned().collect());
        let replaced = {
            let mut current = self.shared.state.write();
            self.shared.gate.adopt(&state.auth);
            std::mem::replace(&mut *current, *state)
        };
        self.unapplied = Some((install.number, install.mark.index));
        self.effects.deliveries.push(Delivery::Jumped { revision });
        // Whether their commands are part of the snapshot nobody can tell.
        for (_, Pending { proposal, .. }) in self.pending.drain() {
            let _ = proposal.answer.send(Err(Refusal::TimedOut));
        }
        self.begin_install(install, Job { head, changes, whole: true, replaced: Some(Box::new(replaced)) });
        Ok(())
    }

    pub(super) fn installed(&mut self, install: Install) {
        let Install { mark, number, entries, hard_state, after, turn } = install;
        drop(turn);
        self.shared.gauges.installing.store(0, Ordering::Relaxed);
        self.begun_anew = number;
        self.effects.writes.push(Write::Jump(mark));
        self.give(Write::Append { number, entries, hard_state });
        after.into_iter().for_each(|write| self.give(write));
    }

    fn role_changed(&mut self, role: StateRole, leader: u64) {
        let term = self.node.raft.term;
        let leader_text = format!("{leader:x}");
        tracing::info!(?role, leader = leader_text, term, "role in the cluster changed");
        if leader != raft::INVALID_ID && leader != self.shared.status.leader() {
            self.shared.status.leader_changed();
        }
        if role == StateRole::Leader {
            self.note_heard(true);
            self.shared.lessor.promote(self.shared.state.read().kv.leases());
            return;
        }
        self.shared.lessor.demote();
        self.effects.snapshots.clear();
        self.effects.deposed = true;
        if leader == self.shared.status.leader() {
            return;
        }
        for (_, asked) in self.asked.drain() {
            self.arrived_reads.extend(asked.waiting);
        }
    }

    pub(super) fn answer_reads(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let applied = self.shared.state.read().applied.index;
        let (ready, waiting): (Vec<_>, Vec<_>) = self.reads.drain(..).partition(|r| r.index <= applied);
        self.reads = waiting;
        if let Some(asked) = ready.iter().map(|read| read.asked_ms).max() {
            self.shared.lessor.confirm(asked, self.sure_ms());
        }
        let readers: Vec<_> = ready.into_iter().flat_map(|read| read.waiting).collect();
        if !readers.is_empty() {
            self.effects.deliveries.push(Delivery::Readable(readers));
        }
    }
}

impl From<Applied> for Mark {
    fn from(applied: Applied) -> Mark {
        Mark { index: applied.index, term: applied.term }
    }
}

fn is_wide(request: &DeleteRangeRequest) -> bool {
    !request.range_end.is_empty()
}

fn deletes_widely(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestDeleteRange(request)) => is_wide(request),
        Some(Request::RequestTxn(txn)) => deletes_widely(txn),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::RequestOp;

    #[test]
    fn a_range_is_found_however_deep_it_is_deleted() {
        let delete = |range_end: &'static str| {
            let request = DeleteRangeRequest { range_end: range_end.into(), ..Default::default() };
            RequestOp { request: Some(Request::RequestDeleteRange(request)) }
        };
        let nested = |op: RequestOp| {
            let inner = TxnRequest { failure: vec![op], ..Default::default() };
            let inner = RequestOp { request: Some(Request::RequestTxn(inner)) };
            TxnRequest { success: vec![delete(""), inner], ..Default::default() }
        };
        assert!(deletes_widely(&nested(delete("z"))));
        assert!(!deletes_widely(&nested(delete(""))));
    }
}
