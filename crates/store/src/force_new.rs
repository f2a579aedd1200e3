//! `--force-new-cluster`: a member goes on alone with what it has, when a quorum of the others is lost for good.
//!
//! All of its log counts as committed: what a quorum had, this member need not know to be so. Behind it the log says that the
//! others were removed. Applied as ever, that leaves a cluster of one, with its id and its members' as they were. Only what
//! removes this member itself is passed over: perhaps nobody ever agreed to it, and there would be nobody left.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use prost::Message;
use raft::prelude::{Entry, EntryType};
use raftlog::{HardState, Record, Recovered, Wal};

use crate::auth::Asker;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::pb::kvraft::conf_change::{Single, Type};
use crate::pb::kvraft::member_change::Kind;
use crate::pb::kvraft::{ConfChange, MemberChange};
use crate::raft_node::{leave_joint_entry, member_change_entry, to_log};
use crate::state::State;

/// What is written is what `recovered` says afterwards; nothing if this member is alone already.
pub fn go_on_alone(wal: &mut Wal, recovered: &mut Recovered, state: &State, member_id: u64) -> Result<()> {
    ensure!(!state.is_gone(member_id), "--force-new-cluster: this member was removed from its cluster for good");
    let known = known(recovered, state)?;
    ensure!(
        known.contains(&member_id),
        "--force-new-cluster: this member has learnt nothing of its cluster yet, it has nothing to go on with"
    );
    let others: Vec<u64> = known.into_iter().filter(|id| *id != member_id).collect();
    if others.is_empty() {
        return Ok(());
    }
    let anew = stay(&mut recovered.entries, member_id)?;
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
    recovered.entries.extend(entries);
    // What is written anew takes the place of what was there.
    let records = recovered.entries[anew..].iter().cloned().map(Record::Entry);
    wal.append(&records.chain([Record::HardState(hard_state)]).collect::<Vec<_>>())?;
    recovered.hard_state = hard_state;
    Ok(())
}

/// Everyone who is a member by the checkpoint, or may have become one since.
fn known(recovered: &Recovered, state: &State) -> Result<BTreeSet<u64>> {
    let mut known: BTreeSet<u64> = state.members.keys().copied().collect();
    for entry in &recovered.entries {
        known.extend(change_of(entry)?.changes.iter().map(|single| single.node_id));
    }
    Ok(known)
}

fn change_of(entry: &raftlog::Entry) -> Result<ConfChange> {
    if i32::from(entry.kind) != EntryType::EntryConfChangeV2 as i32 {
        return Ok(ConfChange::default());
    }
    ConfChange::decode(entry.data.clone()).context("a change of members is malformed")
}

/// Empties the entries that would remove this member. Returns where the first of them is, or the end.
fn stay(entries: &mut [raftlog::Entry], member_id: u64) -> Result<usize> {
    let removes = |single: &Single| single.node_id == member_id && single.change_type() == Type::RemoveNode;
    let mut first = entries.len();
    for (at, entry) in entries.iter_mut().enumerate() {
        if change_of(entry)?.changes.iter().any(removes) {
            let empty = Entry { index: entry.index, term: entry.term, ..Entry::default() };
            *entry = to_log(empty);
            first = first.min(at);
        }
    }
    Ok(first)
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

#[cfg(test)]
mod tests {
    use raftlog::Options;

    use super::*;

    fn member(id: u64) -> pb::Member {
        pb::Member { id, ..pb::Member::default() }
    }

    fn removal(id: u64) -> Entry {
        let kind = Kind::Remove.into();
        let change = MemberChange { kind, member: Some(member(id)), ..MemberChange::default() };
        member_change_entry(Op::MemberChange(change))
    }

    /// It had asked to be removed, and nobody was there to agree.
    #[test]
    fn its_own_removal_is_passed_over() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut wal =
            Wal::create(dir.path(), Default::default(), Default::default(), Options::default()).expect("a log");
        let put = || Entry { data: b"put".to_vec(), ..Entry::default() };
        let written = (1..)
            .zip([put(), removal(1), removal(2), put()])
            .map(|(index, entry)| Record::Entry(to_log(Entry { index, term: 1, ..entry })));
        wal.append(&written.collect::<Vec<_>>()).expect("writable");
        drop(wal);

        let (mut wal, mut recovered) = Wal::open(dir.path(), 0, Options::default()).expect("a log");
        let mut state = State::default();
        state.members.extend([1, 2, 3].map(|id| (id, member(id))));
        go_on_alone(&mut wal, &mut recovered, &state, 1).expect("it may");
        drop(wal);
        let (mut wal, reopened) = Wal::open(dir.path(), 0, Options::default()).expect("a log");
        assert_eq!(reopened.entries, recovered.entries);
        let log = &reopened.entries;
        let expected = [put(), Entry::default(), removal(2), put()].map(to_log);
        let what = |entry: &raftlog::Entry| (entry.kind, entry.data.clone());
        assert!(log.iter().map(what).take(4).eq(expected.iter().map(what)), "{log:?}");
        assert!(log.iter().map(|entry| entry.index).eq(1..=8), "it leaves what is joint, votes, and removes two");
        assert_eq!(reopened.hard_state.commit, 8);

        state.members.remove(&1);
        state.removed.insert(1);
        let refused = go_on_alone(&mut wal, &mut recovered, &state, 1).expect_err("that was long ago");
        assert!(refused.to_string().contains("was removed from its cluster"), "{refused}");
    }
}
