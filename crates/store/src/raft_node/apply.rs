//! Applying committed entries: change the state, have the watchers told and answered who waits.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use prost::Message as _;
use raft::prelude::{ConfChangeType, ConfChangeV2, Entry, EntryType};
use tokio::sync::oneshot;

use super::core::{Core, context_id};
use super::effects::Delivery;
use super::handle::Answer;
use super::propose::Pending;
use crate::auth::{attributed, attribution};
use crate::error::Refusal;
use crate::members;
use crate::pb::kvraft::{Command, ConfChange, MemberChange, command::Op};
use crate::state::{Applied, Outcome, State};

/// etcd's measure for a slow one.
const SLOW_APPLY_MS: u64 = 100;

type Answers = Vec<(oneshot::Sender<Answer>, Answer)>;

impl Core {
    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Result<()> {
        let Some(last) = entries.last().map(|e| e.index) else {
            return Ok(());
        };
        let mut answers = Answers::with_capacity(entries.len());
        let mut transactions = Vec::new();
        let shared = self.shared.clone();
        let began_ms = shared.lessor.now_ms();
        let mut state = shared.state.write();
        let term = state.applied.term;
        let mut told = state.kv.revision();
        for entry in entries {
            assert_eq!(entry.index, state.applied.index + 1, "entries are applied once, in order");
            state.applied = Applied { index: entry.index, term: entry.term };
            self.apply_entry(entry, &mut state, &mut answers)?;
            failpoint!("raft-in-apply");
            if state.kv.revision() > told {
                transactions.extend(state.kv.history().since(told + 1).cloned());
                told = state.kv.revision();
            }
        }
        (self.unsaved, self.unsaved_bytes) = (state.kv.changed(), state.kv.changed_bytes());
        let lacked = self.lacked(&state);
        let newest = state.applied.term;
        drop(state);
        if newest > term {
            self.take_back_before(newest);
        }
        if shared.lessor.now_ms() - began_ms > SLOW_APPLY_MS {
            shared.gauges.slow_applies.inc();
        }
        let durable = self.node.raft.raft_log.persisted;
        self.within(durable.max(last), |node| node.advance_apply_to(last));
        // Raft looks for what it is told is durable.
        self.node.mut_store().trim(last.min(durable), lacked);
        shared.status.set_pending(self.pending.len());
        failpoint!("raft-before-answer");
        self.effects.deliveries.push(Delivery::Applied { transactions, revision: told, answers });
        Ok(())
    }

    fn apply_entry(&mut self, entry: Entry, state: &mut State, answers: &mut Answers) -> Result<()> {
        match entry.entry_type() {
            EntryType::EntryNormal => self.apply_command(entry, state, answers),
            EntryType::EntryConfChangeV2 => self.apply_conf_change(entry, state, answers),
            EntryType::EntryConfChange => {
                bail!("entry {} of the log is of a kind that this version does not write", entry.index)
            }
        }
    }

    /// One that does not fit the members by now is answered with why, and changes nothing anywhere.
    fn apply_conf_change(&mut self, entry: Entry, state: &mut State, answers: &mut Answers) -> Result<()> {
        let change = ConfChange::decode(Bytes::from(entry.data)).context("a change of members is malformed")?;
        if change.changes.is_empty() {
            return self.leave_joint(&change, state);
        }
        let asker = context_id(&entry.context).and_then(|id| self.pending.remove(&id)).map(|p| p.proposal.answer);
        let answer = match self.change_members(&change, state) {
            Ok(()) => Ok(Outcome::Members(state.member_list())),
            Err(refusal) => Err(refusal),
        };
        answers.extend(asker.map(|asker| (asker, answer)));
        Ok(())
    }

    /// Proposed by Raft itself, once the joint configuration before it is in force. Nobody comes or goes by it.
    fn leave_joint(&mut self, change: &ConfChange, state: &mut State) -> Result<()> {
        // One who is to go on alone says so without looking.
        if state.conf.voters_outgoing.is_empty() {
            return Ok(());
        }
        self.change_conf(&members::to_raft(change), state).context("Raft does not leave a joint configuration")?;
        if state.is_gone(self.config.member_id) {
            self.note_removed();
        }
        Ok(())
    }

    fn change_conf(&mut self, change: &ConfChangeV2, state: &mut State) -> raft::Result<()> {
        if self.has_no_say_after(change) {
            // Raft knows no leader without a place in its configuration. The others learn first that this is committed:
            // whoever is left alone could not find out.
            let raft = &mut self.node.raft;
            raft.bcast_append();
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        self.shared.lessor.doubt();
        state.conf = self.node.apply_conf_change(change)?;
        self.node.mut_store().set_conf(state.conf.clone());
        Ok(())
    }

    fn note_removed(&mut self) {
        self.shared.status.set_removed();
        self.effects.removed = true;
    }

    /// Whether this member leads, and is no member any more once a change is in force. One who is removed jointly stays
    /// until the joint configuration is left.
    fn has_no_say_after(&self, change: &ConfChangeV2) -> bool {
        let me = self.config.member_id;
        let conf = self.node.raft.prs().conf().to_conf_state();
        let leads = self.node.raft.state == raft::StateRole::Leader;
        leads
            && match &change.changes[..] {
                [] => ![conf.voters, conf.learners, conf.learners_next].iter().any(|ids| ids.contains(&me)),
                [only] => only.node_id == me && only.get_change_type() == ConfChangeType::RemoveNode,
                _ => false,
            }
    }

    fn change_members(&mut self, change: &ConfChange, state: &mut State) -> Result<(), Refusal> {
        let wanted = authorized(change, state)?;
        members::check(state, &wanted)?;
        self.change_conf(&members::to_raft(change), state).map_err(|error| {
            tracing::warn!(%error, "a change of members was refused by Raft");
            Refusal::NotEnoughStarted
        })?;
        tracing::info!(kind = ?wanted.kind(), member = ?wanted.member, also = wanted.and.len(), "members changed");
        members::apply(state, &wanted);
        if members::removes(&wanted, self.config.member_id) && state.is_gone(self.config.member_id) {
            self.note_removed();
        }
        self.effects.members = Some(state.member_list());
        Ok(())
    }

    fn apply_command(&mut self, entry: Entry, state: &mut State, answers: &mut Answers) -> Result<()> {
        if entry.data.is_empty() {
            // A new leader's first entry: it carries nothing.
            return Ok(());
        }
        let pending = context_id(&entry.context).and_then(|id| self.pending.remove(&id));
        let (op, asker) = match pending {
            Some(Pending { proposal, .. }) => (proposal.op, Some(proposal.answer)),
            None => (decode(entry.data)?, None),
        };
        let revoked = match attributed(&op) {
            Some(Op::LeaseRevoke(r)) => Some(r.id),
            _ => None,
        };
        let updates_member = matches!(attributed(&op), Some(Op::MemberUpdate(_)));
        let answer = state.apply(op);
        if let Ok(outcome) = &answer {
            self.shared.gauges.count_outcome(outcome);
        }
        if updates_member {
            self.effects.members = Some(state.member_list());
        }
        match (&answer, revoked) {
            (Ok(Outcome::LeaseGrant(granted)), _) => self.shared.lessor.renew(granted.id, granted.ttl),
            (Ok(Outcome::Auth(effect)), _) => self.shared.gate.follow(effect),
            (Ok(_) | Err(Refusal::LeaseNotFound), Some(id)) => self.shared.lessor.revoked(id),
            _ => {}
        }
        answers.extend(asker.map(|asker| (asker, answer)));
        Ok(())
    }
}

/// The change of members that a change of Raft's configuration carries, if whoever asks may make it.
fn authorized(change: &ConfChange, state: &State) -> Result<MemberChange, Refusal> {
    let op = Command::decode(change.context.clone()).ok().and_then(|command| command.op);
    let op = op.filter(|op| attributed(op).is_some()).ok_or(Refusal::MemberNotFound)?;
    let (asker, op) = attribution(op);
    state.authorize(&asker, &op)?;
    match op {
        Op::MemberChange(wanted) => Ok(wanted),
        _ => Err(Refusal::MemberNotFound),
    }
}

fn decode(data: Vec<u8>) -> Result<Op> {
    let command = Command::decode(Bytes::from(data)).context("an entry of the log is not a command")?;
    let known = command.op.as_ref().and_then(attributed).is_some_and(|op| match op {
        Op::Auth(change) => change.change.is_some(),
        Op::Attributed(_) => false,
        _ => true,
    });
    command.op.filter(|_| known).context("an entry of the log was written by a newer version")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Asker, Caller, Error, ROOT};
    use crate::members::conf_change;
    use crate::pb::etcdserverpb as pb;
    use crate::pb::kvraft::{AuthChange, auth_change::Change, member_change::Kind};

    fn secured() -> State {
        let mut state = State::default();
        let root = || ROOT.to_owned();
        for change in [
            Change::UserAdd(pb::AuthUserAddRequest { name: root(), ..Default::default() }),
            Change::UserGrantRole(pb::AuthUserGrantRoleRequest { user: root(), role: root() }),
            Change::UserAdd(pb::AuthUserAddRequest { name: "ann".to_owned(), ..Default::default() }),
            Change::Enable(pb::AuthEnableRequest {}),
        ] {
            state.apply(Op::Auth(AuthChange { change: Some(change) })).expect("valid");
        }
        state
    }

    #[test]
    fn a_change_of_members_is_judged_when_it_is_applied() {
        let state = secured();
        let user = |name: &str| Asker::User(Caller { user: name.to_owned(), revision: state.auth.revision() });
        let wanted = MemberChange {
            kind: Kind::Add.into(),
            member: Some(pb::Member { id: 1, ..Default::default() }),
            ..MemberChange::default()
        };
        let carried = |op: Op| {
            let command = Command { op: Some(op) };
            let change = ConfChange { context: command.encode_to_vec().into(), ..conf_change(&wanted) };
            authorized(&change, &state)
        };
        let check = |asker: Asker, expected: Result<(), Error>| {
            let asked = carried(asker.clone().sign(Op::MemberChange(wanted.clone())));
            assert_eq!(asked, expected.map(|()| wanted.clone()).map_err(Refusal::Auth), "{asker:?}");
        };
        check(Asker::Nobody, Err(Error::UserEmpty));
        check(user("ann"), Err(Error::PermissionDenied));
        check(user(ROOT), Ok(()));
        check(Asker::Member, Ok(()));
        let other = user(ROOT).sign(Op::Compaction(pb::CompactionRequest::default()));
        assert_eq!(carried(other), Err(Refusal::MemberNotFound));
    }
}
