//! Who is a member: the rules by which members are added, promoted, changed and removed.
//!
//! A change is checked twice: where it is asked for, so that the asker is told why not, and where it is applied, alike on
//! every member, because another one may have come first.

use raft::prelude::{ConfChangeSingle, ConfChangeV2};
use sha2::{Digest, Sha256};

use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::{ConfChange, MemberChange, conf_change, member_change::Kind};
use crate::state::State;

/// etcd's bound, with its reason: a learner costs the leader a snapshot.
const MAX_LEARNERS: usize = 1;

/// Never zero: zero is nobody.
pub fn id(parts: &[&[u8]]) -> u64 {
    let hash = Sha256::digest(parts.concat());
    let first = hash.first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(*first).max(1)
}

/// What a change is made of.
fn steps(change: &MemberChange) -> impl Iterator<Item = &MemberChange> {
    std::iter::once(change).chain(&change.and)
}

/// The change of Raft's configuration that goes with a change of members. Several steps are one change: Raft goes through
/// a joint configuration, and leaves it by itself.
pub fn conf_change(change: &MemberChange) -> ConfChange {
    let single = |step: &MemberChange| {
        let learner = step.member.as_ref().is_some_and(|m| m.is_learner);
        let change_type = match step.kind() {
            Kind::Add if learner => conf_change::Type::AddLearner,
            Kind::Add | Kind::Promote => conf_change::Type::AddNode,
            Kind::Remove => conf_change::Type::RemoveNode,
        };
        conf_change::Single { change_type: change_type.into(), node_id: step.member.as_ref().map_or(0, |m| m.id) }
    };
    ConfChange { changes: steps(change).map(single).collect(), ..ConfChange::default() }
}

/// Whether a change lets a member go.
pub fn removes(change: &MemberChange, id: u64) -> bool {
    steps(change).any(|step| step.kind() == Kind::Remove && step.member.as_ref().is_some_and(|m| m.id == id))
}

/// For Raft, whose own type it is.
pub fn to_raft(change: &ConfChange) -> ConfChangeV2 {
    let single = |c: &conf_change::Single| ConfChangeSingle { change_type: c.change_type, node_id: c.node_id };
    ConfChangeV2 {
        transition: i32::try_from(change.transition).unwrap_or_default(),
        changes: change.changes.iter().map(single).collect(),
        context: change.context.to_vec(),
    }
}

/// Whether a change fits the members there are: each step those that the steps before it leave.
pub fn check(state: &State, change: &MemberChange) -> Result<(), Refusal> {
    if change.and.is_empty() {
        return check_step(state, change);
    }
    let mut then = State { members: state.members.clone(), removed: state.removed.clone(), ..State::default() };
    for step in steps(change) {
        check_step(&then, step)?;
        apply_step(&mut then, step);
    }
    Ok(())
}

fn check_step(state: &State, change: &MemberChange) -> Result<(), Refusal> {
    let member = change.member.as_ref().ok_or(Refusal::MemberNotFound)?;
    let known = state.members.get(&member.id);
    match change.kind() {
        Kind::Add => {
            if known.is_some() || state.removed.contains(&member.id) {
                return Err(Refusal::MemberExists);
            }
            check_urls(state, member)?;
            let learners = state.members.values().filter(|m| m.is_learner).count();
            if member.is_learner && learners >= MAX_LEARNERS { Err(Refusal::TooManyLearners) } else { Ok(()) }
        }
        Kind::Remove => {
            let known = known.ok_or(Refusal::MemberNotFound)?;
            let voters = state.members.values().filter(|m| !m.is_learner).count();
            if !known.is_learner && voters == 1 { Err(Refusal::NotEnoughStarted) } else { Ok(()) }
        }
        Kind::Promote => match known {
            None => Err(Refusal::MemberNotFound),
            Some(member) if !member.is_learner => Err(Refusal::MemberNotLearner),
            Some(_) => Ok(()),
        },
    }
}

pub fn check_update(state: &State, member: &pb::Member) -> Result<(), Refusal> {
    if !state.members.contains_key(&member.id) {
        return Err(Refusal::MemberNotFound);
    }
    check_urls(state, member)
}

fn check_urls(state: &State, member: &pb::Member) -> Result<(), Refusal> {
    let others = state.members.values().filter(|m| m.id != member.id);
    let taken = others.flat_map(|m| &m.peer_ur_ls).any(|url| member.peer_ur_ls.contains(url));
    if taken { Err(Refusal::PeerUrlExists) } else { Ok(()) }
}

/// Carries out a change that was checked.
pub fn apply(state: &mut State, change: &MemberChange) {
    steps(change).for_each(|step| apply_step(state, step));
}

fn apply_step(state: &mut State, change: &MemberChange) {
    let Some(member) = &change.member else { return };
    match change.kind() {
        Kind::Add => drop(state.members.insert(member.id, member.clone())),
        Kind::Remove => {
            state.members.remove(&member.id);
            state.removed.insert(member.id);
            state.alarms.retain(|(id, _)| *id != member.id);
        }
        Kind::Promote => {
            if let Some(known) = state.members.get_mut(&member.id) {
                known.is_learner = false;
            }
        }
    }
}

/// Whether a change would leave the cluster without a quorum of members that have ever been up (a member says its name
/// when it first comes up).
pub fn keeps_quorum(state: &State, change: &MemberChange) -> Result<(), Refusal> {
    let id = change.member.as_ref().map_or(0, |m| m.id);
    let voters = state.members.values().filter(|m| !m.is_learner && (change.kind() != Kind::Remove || m.id != id));
    let (all, started) = voters.fold((0, 0), |(all, started), m| (all + 1, started + usize::from(!m.name.is_empty())));
    let (all, started) = match change.kind() {
        Kind::Add if change.member.as_ref().is_some_and(|m| m.is_learner) => return Ok(()),
        // The second member of a cluster cannot come up before it is added.
        Kind::Add if started == 1 && all == 1 => return Ok(()),
        Kind::Add => (all + 1, started),
        Kind::Promote => (all + 1, started + 1),
        Kind::Remove => (all, started),
    };
    if started < all / 2 + 1 { Err(Refusal::NotEnoughStarted) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, started: bool, is_learner: bool) -> pb::Member {
        let name = if started { format!("m{id}") } else { String::new() };
        pb::Member { id, name, is_learner, peer_ur_ls: vec![format!("http://m{id}:2380")], ..pb::Member::default() }
    }

    fn state(members: &[(u64, bool, bool)]) -> State {
        let members = members.iter().map(|(id, started, learner)| (*id, member(*id, *started, *learner)));
        State { members: members.collect(), ..State::default() }
    }

    fn change(kind: Kind, member: pb::Member) -> MemberChange {
        MemberChange { kind: kind.into(), member: Some(member), ..MemberChange::default() }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut three = state(&[(1, true, false), (2, true, false), (3, true, true)]);
        let mut try_one = |kind, member: pb::Member, expected: Result<(), Refusal>| {
            let change = change(kind, member.clone());
            assert_eq!(check(&three, &change), expected, "{kind:?} {member:?}");
            if expected.is_ok() {
                apply(&mut three, &change);
            }
        };
        try_one(Kind::Add, member(2, false, false), Err(Refusal::MemberExists));
        let same_url = pb::Member { id: 9, ..member(2, false, false) };
        try_one(Kind::Add, same_url, Err(Refusal::PeerUrlExists));
        try_one(Kind::Add, member(4, false, true), Err(Refusal::TooManyLearners));
        try_one(Kind::Promote, member(1, false, false), Err(Refusal::MemberNotLearner));
        try_one(Kind::Promote, member(8, false, false), Err(Refusal::MemberNotFound));
        try_one(Kind::Promote, member(3, false, false), Ok(()));
        try_one(Kind::Remove, member(8, false, false), Err(Refusal::MemberNotFound));
        try_one(Kind::Remove, member(1, false, false), Ok(()));
        try_one(Kind::Add, member(1, false, false), Err(Refusal::MemberExists));
        try_one(Kind::Remove, member(2, false, false), Ok(()));
        try_one(Kind::Remove, member(3, false, false), Err(Refusal::NotEnoughStarted));
    }

    #[test]
    fn steps_of_one_change_build_on_each_other() {
        let three = state(&[(1, true, false), (2, true, false), (3, true, true)]);
        let check = |first: MemberChange, second: MemberChange, expected: Result<(), Refusal>| {
            let change = MemberChange { and: vec![second], ..first };
            assert_eq!(super::check(&three, &change), expected, "{change:?}");
            assert_eq!(conf_change(&change).changes.len(), 2);
        };
        let remove = |id| change(Kind::Remove, member(id, true, false));
        let add = |id, learner| change(Kind::Add, member(id, false, learner));
        check(remove(3), add(4, true), Ok(()));
        check(add(4, true), remove(3), Err(Refusal::TooManyLearners));
        check(remove(2), add(2, false), Err(Refusal::MemberExists));
        check(change(Kind::Promote, member(3, true, true)), remove(1), Ok(()));
        check(remove(1), remove(2), Err(Refusal::NotEnoughStarted));
        assert!(removes(&MemberChange { and: vec![remove(2)], ..add(4, false) }, 2));
    }

    #[test]
    fn a_quorum_must_stay() {
        let check = |members: &[(u64, bool, bool)], kind, of: pb::Member, ok: bool| {
            assert_eq!(keeps_quorum(&state(members), &change(kind, of)).is_ok(), ok, "{members:?} {kind:?}");
        };
        let up = |id| (id, true, false);
        let down = |id| (id, false, false);
        check(&[up(1)], Kind::Add, member(2, false, false), true);
        check(&[up(1), down(2)], Kind::Add, member(3, false, false), false);
        check(&[up(1), down(2)], Kind::Add, member(3, false, true), true);
        check(&[up(1), up(2), up(3)], Kind::Add, member(4, false, false), true);
        check(&[up(1), up(2), up(3)], Kind::Remove, member(3, true, false), true);
        check(&[up(1), up(2), down(3), down(4)], Kind::Remove, member(2, true, false), false);
        check(&[up(1), up(2), down(3)], Kind::Remove, member(3, false, false), true);
        check(&[up(1), (2, true, true)], Kind::Promote, member(2, true, true), true);
    }
}
