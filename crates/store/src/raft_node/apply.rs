//! Applying committed entries: change the state, tell the watchers, answer who waits.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use prost::Message as _;
use raft::prelude::{Entry, EntryType};
use tokio::sync::oneshot;

use super::core::{Core, context_id};
use super::handle::Answer;
use crate::auth::attributed;
use crate::error::Refusal;
use crate::pb::kvraft::{Command, command::Op};
use crate::state::{Applied, Outcome, State};

type Answers = Vec<(oneshot::Sender<Answer>, Answer)>;

impl Core {
    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Result<()> {
        let Some(last) = entries.last().map(|e| e.index) else {
            return Ok(());
        };
        let mut answers = Answers::with_capacity(entries.len());
        let mut transactions = Vec::new();
        let shared = self.shared.clone();
        let mut state = shared.state.write();
        let mut told = state.kv.revision();
        for entry in entries {
            assert_eq!(entry.index, state.applied.index + 1, "entries are applied once, in order");
            state.applied = Applied { index: entry.index, term: entry.term };
            self.apply_entry(entry, &mut state, &mut answers)?;
            if state.kv.revision() > told {
                transactions.extend(state.kv.history().since(told + 1).cloned());
                told = state.kv.revision();
            }
        }
        drop(state);
        self.node.advance_apply_to(last);
        self.node.mut_store().trim(last);
        shared.hub.publish(&transactions, told);
        shared.status.set_pending(self.pending.len());
        for (asker, answer) in answers {
            // Whoever gave up waiting is not interested.
            let _ = asker.send(answer);
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: Entry, state: &mut State, answers: &mut Answers) -> Result<()> {
        match entry.entry_type() {
            EntryType::EntryNormal => self.apply_command(entry, state, answers),
            kind => bail!("entry {} of the log is a {kind:?}, which this version does not write", entry.index),
        }
    }

    fn apply_command(&mut self, entry: Entry, state: &mut State, answers: &mut Answers) -> Result<()> {
        if entry.data.is_empty() {
            // A new leader's first entry: it carries nothing.
            return Ok(());
        }
        let pending = context_id(&entry.context).and_then(|id| self.pending.remove(&id));
        let (op, asker) = match pending {
            Some(proposal) => (proposal.op, Some(proposal.answer)),
            None => (decode(entry.data)?, None),
        };
        let revoked = match attributed(&op) {
            Some(Op::LeaseRevoke(r)) => Some(r.id),
            _ => None,
        };
        let answer = state.apply(op);
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

fn decode(data: Vec<u8>) -> Result<Op> {
    let command = Command::decode(Bytes::from(data)).context("an entry of the log is not a command")?;
    let known = command.op.as_ref().and_then(attributed).is_some_and(|op| match op {
        Op::Auth(change) => change.change.is_some(),
        Op::Attributed(_) => false,
        _ => true,
    });
    command.op.filter(|_| known).context("an entry of the log was written by a newer version")
}
