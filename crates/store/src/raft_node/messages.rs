//! What peers say.

use anyhow::{Result, ensure};
use raft::prelude::{Message, MessageType};
use raft::{ProgressState, StateRole};
use raftlog::Mark;

use super::core::{Arrived, Core};

/// Part of an election timeout for which a member that has started does not vote.
const FORGETFUL_PART: u64 = 2;
/// How raft-rs marks the campaign of who was told to lead; it overrides what voters know of the leader.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

impl Core {
    /// Raft ignores what it has no use for: a message of a removed member, of an old term, for somebody else.
    pub(super) fn step(&mut self, mut message: Message) -> Result<()> {
        self.check_promised(&message)?;
        // Raft cannot campaign between a snapshot and its being applied: it looks for the entries before.
        let campaigns = message.msg_type() == MessageType::MsgTimeoutNow && self.unapplied.is_some();
        // What is behind a snapshot is asked for once it is in place; until then it would only lie about.
        let early = message.msg_type() == MessageType::MsgAppend
            && (self.installing.is_some()
                || self.waiting_snapshot.is_some()
                || self.is_behind()
                || self.disk.is_full(self.config.max_waiting_bytes));
        if message.to != self.config.member_id
            || campaigns
            || early
            || self.is_too_new_for(&message)
            || self.is_overtaken(&message)
        {
            return Ok(());
        }
        if message.msg_type() == MessageType::MsgPropose && message.term != 0 {
            let leads = message.term == self.node.raft.term && self.node.raft.state == StateRole::Leader;
            if !leads || self.is_full() || self.is_behind() {
                return Ok(());
            }
            if self.node.raft.lead_transferee.is_some() {
                self.keep_forwarded(message);
                return Ok(());
            }
            // As Raft has it.
            message.term = 0;
        }
        if message.msg_type() == MessageType::MsgTransferLeader {
            self.shared.lessor.hand_over();
        }
        if let Err(error) = self.node.step(message) {
            tracing::trace!(%error, "a peer's message was of no use");
        }
        Ok(())
    }

    /// A leader says in its heartbeats only what this member has acknowledged. A log without it has lost what others rely on.
    fn check_promised(&self, message: &Message) -> Result<()> {
        let raft = &self.node.raft;
        let of_leader = message.msg_type() == MessageType::MsgHeartbeat && message.term >= raft.term;
        let (has, promised) = (raft.raft_log.last_index(), message.commit);
        ensure!(
            message.to != self.config.member_id || !of_leader || promised <= has,
            "the log is damaged: it ends at entry {has}, and this member has acknowledged entry {promised}: remove the \
             member and add it again"
        );
        Ok(())
    }

    /// A member that has just started has forgotten whom it took for the leader, who may count on that still.
    fn is_too_new_for(&self, message: &Message) -> bool {
        let vote = matches!(message.msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        let election = u64::try_from(self.config.election_ticks).unwrap_or(u64::MAX);
        vote && message.context != CAMPAIGN_TRANSFER && self.ticks < election / FORGETFUL_PART
    }

    /// Whether a peer said so before it had the snapshot that it was sent since: entries that came late, from a connection
    /// given up perhaps. Raft would go on behind those, send another snapshot, and nobody could tell whether what was
    /// forwarded meanwhile is in it.
    fn is_overtaken(&self, message: &Message) -> bool {
        let raft = &self.node.raft;
        let accepts = message.msg_type() == MessageType::MsgAppendResponse && !message.reject;
        // One of a later term says that this leader is none any more.
        let leads = raft.state == StateRole::Leader && message.term == raft.term;
        let probed = raft.prs().get(message.from).filter(|peer| peer.state == ProgressState::Probe);
        // Who accepts what it is asked for ends there, or later.
        accepts && leads && probed.is_some_and(|peer| message.index + 1 < peer.next_idx)
    }

    /// Two leaders, one after the other, may both have sent one. Raft decides which it wants.
    pub(super) fn take_snapshot(&mut self, message: Message, arrived: Arrived) -> Result<()> {
        self.step(message)?;
        let mark = Mark::from(arrived.state.applied);
        let wanted = self.node.snap().and_then(|snapshot| snapshot.metadata.as_ref());
        if wanted.is_some_and(|wanted| (wanted.index, wanted.term) == (mark.index, mark.term)) {
            self.arrived_snapshot = Some((mark, arrived));
        }
        Ok(())
    }
}
