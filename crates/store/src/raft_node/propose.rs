//! From requests to Raft: many commands in one proposal, many reads under one read index.

use prost::Message as _;
use raft::StateRole;
use raft::prelude::{Entry, EntryType, Message, MessageType};

use super::core::Core;
use crate::auth::attributed;
use crate::error::Refusal;
use crate::members::conf_change;
use crate::pb::kvraft::{Command, ConfChange, command::Op};

impl Core {
    /// Everything that has arrived becomes one proposal of many entries.
    pub(super) fn propose_arrived(&mut self) {
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
        let mut message = Message { from: self.config.member_id, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        if self.node.raft.step(message).is_err() {
            for id in ids {
                self.refuse(id, Refusal::NoLeader);
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
        self.asked.insert(id, (self.ticks, std::mem::take(&mut self.arrived_reads)));
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
