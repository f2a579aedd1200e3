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

    /// While a leader's disk does not keep up with checkpoints, what arrives waits, if somebody still waits for it.
    fn holds(&mut self) -> bool {
        let held = self.is_behind();
        let changed = self.shared.status.set_held(held);
        if changed && held {
            tracing::warn!("the disk is too slow for checkpoints; nothing more is written until one is done");
        }
        let holds = held && self.node.raft.state == StateRole::Leader && !self.is_stopping();
        if holds || changed {
            self.arrived.retain(|proposal| !proposal.answer.is_closed());
            self.arrived_for_term.retain(|(_, proposal)| !proposal.answer.is_closed());
        }
        holds
    }

    /// Everything that has arrived becomes one proposal of many entries.
    pub(super) fn propose_arrived(&mut self) {
        if self.holds() {
            return;
        }
        self.admit_for_term();
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
        let mut entries = Vec::with_capacity(self.arrived.len());
        let mut ids = Vec::with_capacity(self.arrived.len());
        for mut proposal in std::mem::take(&mut self.arrived) {
            let id = self.next_id;
            self.next_id = id.wrapping_add(1);
            let command = Command { op: Some(proposal.op) };
            entries.push(entry(&command, id.to_le_bytes().to_vec()));
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
