//! `--force-new-cluster`: a member goes on alone with what it has, when a quorum of the others is lost for good.
//!
//! All of its log counts as committed: what a quorum had, this member need not know to be so. Behind it the log says that the
//! others were removed. Applied as ever, that leaves a cluster of one, with its id and its members' as they were.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use prost::Message;
use raft::prelude::EntryType;
use raftlog::{HardState, Record, Recovered, Wal};

use crate::auth::Asker;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::pb::kvraft::member_change::Kind;
use crate::pb::kvraft::{ConfChange, MemberChange};
use crate::raft_node::{leave_joint_entry, member_change_entry, to_log};
use crate::state::State;

/// What is written is what `recovered` says afterwards; nothing if this member is alone already.
pub fn go_on_alone(wal: &mut Wal, recovered: &mut Recovered, state: &State, member_id: u64) -> Result<()> {
    let known = known(recovered, state)?;
    ensure!(
        known.contains(&member_id),
        "--force-new-cluster: this member has learnt nothing of its cluster yet, it has nothing to go on with"
    );
    let others: Vec<u64> = known.into_iter().filter(|id| *id != member_id).collect();
    if others.is_empty() {
        return Ok(());
    }
    tracing::warn!(removed = others.len(), "--force-new-cluster: this member goes on alone, the others are removed");
    let before = recovered.entries.last().map_or((recovered.mark.index, recovered.mark.term), |e| (e.index, e.term));
    let before = before.max((state.applied.index, state.applied.term));
    let term = recovered.hard_state.term.max(before.1).max(1);
    let mut entries = alone(member_id, &others);
    for (index, entry) in (before.0 + 1..).zip(&mut entries) {
        (entry.index, entry.term) = (index, term);
    }
    let commit = entries.last().map_or(before.0, |e| e.index);
    let hard_state = HardState { term, commit, ..recovered.hard_state };
    let records = entries.iter().cloned().map(Record::Entry);
    wal.append(&records.chain([Record::HardState(hard_state)]).collect::<Vec<_>>())?;
    recovered.entries.extend(entries);
    recovered.hard_state = hard_state;
    Ok(())
}

/// Everyone who is a member by the checkpoint, or may have become one since.
fn known(recovered: &Recovered, state: &State) -> Result<BTreeSet<u64>> {
    let mut known: BTreeSet<u64> = state.members.keys().copied().collect();
    for entry in recovered.entries.iter().filter(|e| i32::from(e.kind) == EntryType::EntryConfChangeV2 as i32) {
        let change = ConfChange::decode(entry.data.clone()).context("a change of members is malformed")?;
        known.extend(change.changes.iter().map(|single| single.node_id));
    }
    Ok(known)
}

/// Steps that do not fit the members there are by then change nothing.
fn alone(member_id: u64, others: &[u64]) -> Vec<raftlog::Entry> {
    let step = |kind: Kind, id: u64| {
        let member = Some(pb::Member { id, ..pb::Member::default() });
        let change = MemberChange { kind: kind.into(), member, ..MemberChange::default() };
        member_change_entry(Asker::Member.sign(Op::MemberChange(change)))
    };
    let removals = others.iter().map(|id| step(Kind::Remove, *id));
    let steps = [leave_joint_entry(), step(Kind::Promote, member_id)].into_iter().chain(removals);
    steps.map(to_log).collect()
}
