//! From requests to Raft: many commands in one proposal, many reads under one read index.

use prost::Message as _;
use raft::StateRole;
use raft::prelude::{Entry, EntryType, Message, MessageType};

use super::core::{Asked, Core};
use crate::auth::attributed;
use crate::error::Refusal;
use crate::members::conf_change;
use crate::pb::kvraft::{Command, ConfChange, command::Op};

/// A follower forwards what was proposed as one message.
pub const MAX_PROPOSAL_BYTES: usize = 4 << 20;

/// Parts that are not larger than [`MAX_PROPOSAL_BYTES`], or hold one entry more.
fn by_bytes(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut parts = vec![Vec::with_capacity(entries.len())];
    let mut bytes = 0;
    for entry in entries {
        if bytes >= MAX_PROPOSAL_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += entry.data.len();
        parts.last_mut().expect("it begins with one").push(entry);
    }
    parts
}

impl Core {
    /// What only the leader of a term may propose: another's log it must not reach.
    fn admit_for_term(&mut self) {
        let raft = &self.node.raft;
        let leads_in = (raft.state == StateRole::Leader).then_some(raft.term);
        for (term, proposal) in std::mem::take(&mut self.arrived_for_term) {
            if leads_in == Some(term) {
                self.arrived.push(proposal);
            } else {
                let _ = proposal.answer.send(Err(Refusal::NotLeader));
            }
        }
    }

    /// Everything that has arrived becomes one proposal of many entries.
    pub(super) fn propose_arrived(&mut self) {
        self.admit_for_term();
        if self.arrived.is_empty() {
            return;
        }
        if self.is_stopping() || self.node.raft.leader_id == raft::INVALID_ID {
            let refusal = if self.is_stopping() { Refusal::Stopped } else { Refusal::NoLeader };
            for proposal in self.arrived.drain(..) {
                let _ = proposal.answer.send(Err(refusal));
            }
            return;
        }
        let mut entries = Vec::with_capacity(self.arrived.len());
        let mut ids = Vec::with_capacity(self.arrived.len());
        for mut proposal in std::mem::take(&mut self.arrived) {
            let id = self.next_id;
            self.next_id = id.wrapping_add(1);
            let command = Command { op: Some(proposal.op) };
            entries.push(entry(&command, id));
            proposal.op = command.op.expect("put there above");
            self.pending.insert(id, proposal);
            ids.push(id);
        }
        let mut ids = ids.into_iter();
        for entries in by_bytes(entries) {
            let ids: Vec<u64> = ids.by_ref().take(entries.len()).collect();
            let mut message = Message { from: self.config.member_id, entries, ..Message::default() };
            message.set_msg_type(MessageType::MsgPropose);
            if self.node.raft.step(message).is_err() {
                ids.into_iter().for_each(|id| self.refuse(id, Refusal::NoLeader));
            }
        }
        self.shared.status.set_pending(self.pending.len());
    }

    /// One read index for all reads that have arrived.
    pub(super) fn ask_read_index(&mut self) {
        if self.arrived_reads.is_empty() || !self.can_read_index() {
            return;
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let asked = Asked {
            tick: self.ticks,
            at_ms: self.shared.lessor.now_ms(),
            waiting: std::mem::take(&mut self.arrived_reads),
        };
        self.asked.insert(id, asked);
        self.node.read_index(id.to_le_bytes().to_vec());
    }

    /// Raft drops the question while there is no leader, or the leader has committed nothing
    /// in its term and so does not know yet what was committed before.
    fn can_read_index(&self) -> bool {
        let raft = &self.node.raft;
        let new_leader = raft.state == StateRole::Leader && !raft.commit_to_current_term();
        raft.leader_id != ::raft::INVALID_ID && !new_leader
    }
}

/// Changes of members are changes of Raft's configuration, with the command as their context.
fn entry(command: &Command, id: u64) -> Entry {
    let data = command.encode_to_vec();
    let context = id.to_le_bytes().to_vec();
    match command.op.as_ref().and_then(attributed) {
        Some(Op::MemberChange(change)) => {
            let change = ConfChange { context: data.into(), ..conf_change(change) };
            let entry_type = EntryType::EntryConfChangeV2 as i32;
            Entry { entry_type, data: change.encode_to_vec(), context, ..Entry::default() }
        }
        _ => Entry { data, context, ..Entry::default() },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::gate::Gate;
    use crate::pb::etcdserverpb as pb;
    use crate::raft_node::core::{Config, Input};
    use crate::raft_node::effects::Write;
    use crate::raft_node::handle::{Answer, Proposal};
    use crate::shared::Shared;
    use crate::state::State;
    use crate::token;

    fn proposal(op: Op) -> (Proposal, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one is free");
        (Proposal { op, answer, _permit: permit }, answered)
    }

    /// A lone member that leads.
    fn leader(snapshot_count: u64) -> Core {
        let mut core = member(vec![1], snapshot_count);
        core.begin().expect("alone");
        core.drive().expect("elected");
        core
    }

    fn member(voters: Vec<u64>, snapshot_count: u64) -> Core {
        let mut state = State::default();
        state.conf.voters = voters;
        let tokens = token::Config::parse("simple", std::time::Duration::from_secs(1)).expect("etcd's default");
        let shared = Arc::new(Shared::new(1, state, Gate::new(tokens, 4)));
        let config = Config { member_id: 1, snapshot_count, election_ticks: 10, tick_ms: 100, kept_entries: 100 };
        Core::new(config, shared, raftlog::Recovered::default(), 1).expect("nothing is there")
    }

    /// Member 2 says so to member 1.
    fn hear(core: &mut Core, kind: MessageType, term: u64, index: u64) {
        let mut message = Message { from: 2, to: 1, term, index, ..Message::default() };
        message.set_msg_type(kind);
        core.take(Input::Messages(vec![message])).expect("taken");
        core.drive().expect("goes on");
    }

    /// Whoever applies for long sends nothing meanwhile: the others are to be as busy.
    #[test]
    fn peers_hear_of_what_takes_long_before_it_is_done() {
        let mut core = member(vec![1, 2, 3], 1_000);
        core.node.campaign().expect("it may");
        core.drive().expect("asks");
        persist(&mut core);
        hear(&mut core, MessageType::MsgRequestPreVoteResponse, 1, 0);
        persist(&mut core);
        hear(&mut core, MessageType::MsgRequestVoteResponse, 1, 0);
        persist(&mut core);
        hear(&mut core, MessageType::MsgAppendResponse, 1, 1);
        let mut applied = 1;
        for (range_end, defers) in [("", false), ("z", true)] {
            let all = pb::DeleteRangeRequest { key: "a".into(), range_end: range_end.into(), ..Default::default() };
            let (proposal, _answered) = proposal(Op::DeleteRange(all));
            core.take(Input::Propose(proposal)).expect("taken");
            core.drive().expect("proposed");
            persist(&mut core);
            core.effects.messages.clear();
            hear(&mut core, MessageType::MsgAppendResponse, 1, applied + 1);
            assert!(core.effects.messages.iter().any(|m| m.to == 2 && m.commit == applied + 1));
            assert_eq!(core.defers(), defers, "{range_end:?}");
            assert_eq!(core.shared.state.read().applied.index == applied, defers, "{range_end:?}");
            core.drive().expect("goes on");
            applied += 1;
            assert_eq!(core.shared.state.read().applied.index, applied);
        }
    }

    #[test]
    fn what_a_terms_leader_proposes_ends_with_the_term() {
        let mut core = leader(1_000);
        let term = core.node.raft.term;
        for (bound_to, refused) in [(term - 1, true), (term, false)] {
            let (proposal, mut answered) = proposal(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }));
            core.take(Input::ProposeAsLeader(bound_to, proposal)).expect("taken");
            core.drive().expect("proposed");
            let answer = answered.try_recv();
            assert_eq!(matches!(answer, Ok(Err(Refusal::NotLeader))), refused, "bound to term {bound_to}");
        }
        assert_eq!(core.pending.len(), 1);
    }

    /// Writes what there is to write, and says so.
    fn persist(core: &mut Core) {
        for write in std::mem::take(&mut core.effects.writes) {
            if let Write::Append { number, .. } = write {
                core.take(Input::Persisted { number }).expect("taken");
            }
        }
        core.drive().expect("goes on");
    }

    /// Raft drops what a follower forwards while the leader hands over, and tells nobody.
    #[test]
    fn who_has_given_up_takes_no_place() {
        let mut core = leader(1_000);
        let lease = || Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 });
        let (waiting, _answered) = proposal(lease());
        let (given_up, answered) = proposal(lease());
        for proposal in [waiting, given_up] {
            core.take(Input::Propose(proposal)).expect("taken");
        }
        core.drive().expect("proposed");
        drop(answered);
        assert_eq!(core.pending.len(), 2);
        core.tick();
        assert_eq!(core.pending.len(), 1);
    }

    #[test]
    fn a_checkpoint_is_due_after_entries_or_after_the_records_of_large_ones() {
        let check = |puts: usize, entries: usize, due: bool| {
            let mut core = leader(100);
            persist(&mut core);
            for entry in 0..entries {
                let put = |n: usize| {
                    let key = format!("{entry}/{n}").into();
                    let put = pb::PutRequest { key, ..pb::PutRequest::default() };
                    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
                };
                let txn = pb::TxnRequest { success: (0..puts).map(put).collect(), ..pb::TxnRequest::default() };
                let (proposal, _answered) = proposal(Op::Txn(txn));
                core.take(Input::Propose(proposal)).expect("taken");
            }
            core.drive().expect("proposed");
            persist(&mut core);
            assert_eq!(core.shared.state.read().kv.revision(), 1 + entries as i64);
            assert_eq!(!core.effects.jobs.is_empty(), due, "{entries} entries of {puts} puts");
        };
        check(1, 50, false);
        check(1, 100, true);
        check(100, 7, false);
        check(100, 8, true);
    }
}
