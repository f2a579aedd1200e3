//! From requests to Raft: many commands in one proposal, many reads under one read index.

use anyhow::Result;
use prost::Message as _;
use raft::StateRole;
use raft::prelude::{Entry, EntryType, Message, MessageType};

use super::core::{Asked, Core, context_id};
use super::handle::Proposal;
use crate::auth::attributed;
use crate::error::Refusal;
use crate::leader_watch;
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

/// What was proposed and not applied yet.
pub struct Pending {
    pub proposal: Proposal,
    /// The term in which it may have come into a log, and in no other.
    pub term: u64,
}

impl Core {
    /// What only the leader of a term may propose: another's log it must not reach.
    fn refuse_outdated(&mut self) {
        let raft = &self.node.raft;
        let leads_in = (raft.state == StateRole::Leader).then_some(raft.term);
        for outdated in self.arrived.extract_if(.., |p| p.only_in.is_some() && p.only_in != leads_in) {
            let _ = outdated.answer.send(Err(Refusal::NotLeader));
        }
    }

    /// Whether what arrives waits, if somebody still waits for it: until the disk of who leads keeps up with checkpoints, or
    /// until somebody leads. An election that nothing is in the way of ends sooner than its patience.
    pub(super) fn must_wait(&self) -> bool {
        let raft = &self.node.raft;
        let elects = raft.leader_id == raft::INVALID_ID && !self.is_leaderless_for(leader_watch::PATIENCE);
        let is_behind = raft.state == StateRole::Leader && self.is_behind();
        !self.is_stopping() && (is_behind || elects || raft.lead_transferee.is_some())
    }

    /// Election timeouts.
    fn is_leaderless_for(&self, elections: u32) -> bool {
        let election = u64::try_from(self.config.election_ticks).unwrap_or(u64::MAX);
        self.node.raft.leader_id == raft::INVALID_ID && self.leaderless >= election.saturating_mul(elections.into())
    }

    /// One who is to end waits for an election, but not for a quorum that is gone; one who was removed, for nothing.
    pub(super) fn give_up_if_ending(&mut self) {
        let ends_alone = self.draining && self.is_leaderless_for(1);
        if !(ends_alone || self.shared.status.is_removed()) {
            return;
        }
        let pending = self.pending.drain().map(|(_, pending)| pending.proposal);
        for proposal in self.arrived.drain(..).chain(pending) {
            let _ = proposal.answer.send(Err(Refusal::Stopped));
        }
        self.arrived_reads.clear();
        self.asked.clear();
    }

    fn tell_whether_behind(&mut self) {
        let behind = self.is_behind();
        if self.shared.status.set_held(behind) && behind {
            tracing::warn!("the disk is too slow for checkpoints; nothing more is written until one is done");
        }
    }

    /// Everything that has arrived becomes one proposal of many entries.
    pub(super) fn propose_arrived(&mut self) {
        self.tell_whether_behind();
        let held = self.must_wait();
        if std::mem::replace(&mut self.waited, held) || held {
            self.arrived.retain(|proposal| !proposal.answer.is_closed());
        }
        if held {
            return;
        }
        self.refuse_outdated();
        if self.arrived.is_empty() {
            return;
        }
        let refused = [
            (self.is_stopping(), Refusal::Stopped),
            (self.node.raft.leader_id == raft::INVALID_ID, Refusal::NoLeader),
            (self.is_full(), Refusal::TooManyRequests),
        ];
        if let Some((_, refusal)) = refused.into_iter().find(|(holds, _)| *holds) {
            for proposal in self.arrived.drain(..) {
                let _ = proposal.answer.send(Err(refusal));
            }
            return;
        }
        let arrived = std::mem::take(&mut self.arrived);
        self.propose(arrived);
    }

    fn propose(&mut self, proposals: Vec<Proposal>) {
        let term = self.node.raft.term;
        let mut entries = Vec::with_capacity(proposals.len());
        let mut ids = Vec::with_capacity(proposals.len());
        for mut proposal in proposals {
            let id = self.next_id;
            self.next_id = id.wrapping_add(1);
            let command = Command { op: Some(proposal.op) };
            entries.push(entry(&command, id.to_le_bytes().to_vec()));
            proposal.op = command.op.expect("put there above");
            self.pending.insert(id, Pending { proposal, term });
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

    /// What goes to the leader is for the leader of this term only: so it shows in the end whether it came into a log, and
    /// one that is long on its way does not come behind what was asked later.
    pub(super) fn forward(&mut self, mut messages: Vec<Message>) -> Vec<Message> {
        let (term, leader) = (self.node.raft.term, self.node.raft.leader_id);
        for message in messages.iter_mut().filter(|m| m.msg_type() == MessageType::MsgPropose) {
            message.term = term;
            for id in message.entries.iter().filter_map(|entry| context_id(&entry.context)) {
                if message.to != leader {
                    // Another one leads by now, and this one is not asked.
                    self.arrived.extend(self.pending.remove(&id).map(|pending| pending.proposal));
                } else if let Some(pending) = self.pending.get_mut(&id) {
                    pending.term = term;
                }
            }
        }
        messages.retain(|m| m.msg_type() != MessageType::MsgPropose || m.to == leader);
        messages
    }

    /// An entry of this term is applied: what was proposed in terms before, and is not, will never be. Whoever waits for it
    /// need not know, and it is proposed anew.
    pub(super) fn take_back_before(&mut self, term: u64) {
        let mut lost: Vec<_> = self.pending.extract_if(|_, pending| pending.term < term).collect();
        lost.sort_unstable_by_key(|(id, _)| *id);
        let proposals = lost.into_iter().map(|(_, pending)| pending.proposal);
        self.arrived.extend(proposals.filter(|proposal| !proposal.answer.is_closed()));
    }

    /// Raft drops what is forwarded while the lead is handed over, and tells nobody.
    pub(super) fn keep_forwarded(&mut self, message: Message) {
        let bytes = |m: &Message| m.entries.iter().map(|e| e.data.len() as u64).sum::<u64>();
        let kept: u64 = self.forwarded.iter().map(bytes).sum();
        if kept + bytes(&message) <= self.config.max_waiting_bytes {
            self.forwarded.push(message);
        }
    }

    /// The lead was not handed over in the end. If it was, these were for another term.
    pub(super) fn step_forwarded(&mut self) -> Result<()> {
        if self.node.raft.lead_transferee.is_some() {
            return Ok(());
        }
        std::mem::take(&mut self.forwarded).into_iter().try_for_each(|message| self.step(message))
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
    pub(super) fn can_read_index(&self) -> bool {
        let raft = &self.node.raft;
        let new_leader = raft.state == StateRole::Leader && !raft.commit_to_current_term();
        raft.leader_id != ::raft::INVALID_ID && !new_leader
    }
}

/// Changes of members are changes of Raft's configuration, with the command as their context.
fn entry(command: &Command, context: Vec<u8>) -> Entry {
    let data = command.encode_to_vec();
    match command.op.as_ref().and_then(attributed) {
        Some(Op::MemberChange(change)) => {
            let change = ConfChange { context: data.into(), ..conf_change(change) };
            let entry_type = EntryType::EntryConfChangeV2 as i32;
            Entry { entry_type, data: change.encode_to_vec(), context, ..Entry::default() }
        }
        _ => Entry { data, context, ..Entry::default() },
    }
}

/// A change of members for whom nobody waits.
pub fn member_change_entry(op: Op) -> Entry {
    entry(&Command { op: Some(op) }, Vec::new())
}

/// As Raft proposes it when a joint configuration is in force.
pub fn leave_joint_entry() -> Entry {
    Entry { entry_type: EntryType::EntryConfChangeV2 as i32, ..Entry::default() }
}
