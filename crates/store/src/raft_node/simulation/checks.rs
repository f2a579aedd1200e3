//! What must hold at every moment, whatever clients see: checked where it could break first.

use std::collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher};
use std::hash::{Hash, Hasher};

use raft::prelude::{ConfState, Message, MessageType};

use super::disk::Disk;
use super::member::Member;
use crate::state::State;

#[derive(Default)]
pub struct Checks {
    /// Who led in which term.
    leaders: BTreeMap<u64, u64>,
    /// The term, the revision and a digest behind each entry.
    applied: BTreeMap<u64, (u64, i64, u64)>,
    /// Raft's configurations by the entry behind which they were first seen.
    confs: BTreeMap<u64, Voters>,
    /// The newest entry that was found to be durable.
    durable: u64,
}

/// Who decides: of both sets a majority, if there are two.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Voters(Vec<u64>, Vec<u64>);

impl Voters {
    fn of(conf: &ConfState) -> Voters {
        let sorted = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        Voters(sorted(&conf.voters), sorted(&conf.voters_outgoing))
    }

    fn is_quorum(&self, agrees: impl Fn(u64) -> bool) -> bool {
        let majority = |ids: &[u64]| ids.iter().filter(|id| agrees(**id)).count() > ids.len() / 2;
        majority(&self.0) && (self.1.is_empty() || majority(&self.1))
    }

    /// No two quorums may decide without each other.
    fn overlaps(&self, other: &Voters) -> bool {
        let all: BTreeSet<u64> = [&self.0, &self.1, &other.0, &other.1].into_iter().flatten().copied().collect();
        let all: Vec<u64> = all.into_iter().collect();
        let within = |side: u64, id: u64| all.iter().position(|known| *known == id).is_some_and(|n| side >> n & 1 == 1);
        (0..1_u64 << all.len())
            .all(|side| !(self.is_quorum(|id| within(side, id)) && other.is_quorum(|id| !within(side, id))))
    }
}

impl Checks {
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }

    pub fn entries(&self) -> u64 {
        self.applied.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// One leader per term; one state per entry; configurations whose quorums meet.
    pub fn member(&mut self, member: &mut Member) -> Result<(), String> {
        let id = member.id;
        if member.leads() {
            let known = *self.leaders.entry(member.term()).or_insert(id);
            if known != id {
                return Err(format!("members {known} and {id} both lead in term {}", member.term()));
            }
        }
        let state = member.shared.state.read();
        let index = state.applied.index;
        if index == member.compared {
            return Ok(());
        }
        member.compared = index;
        let seen = (state.applied.term, state.kv.revision(), digest(&state));
        let known = *self.applied.entry(index).or_insert(seen);
        if known != seen {
            return Err(format!(
                "member {id} is at {seen:?} (term, revision, digest) behind entry {index}, another was at {known:?}"
            ));
        }
        if state.conf.voters.is_empty() { Ok(()) } else { self.conf(index, Voters::of(&state.conf)) }
    }

    fn conf(&mut self, index: u64, voters: Voters) -> Result<(), String> {
        let before = self.confs.range(..=index).next_back().map(|(_, known)| known.clone());
        if before.as_ref() == Some(&voters) {
            return Ok(());
        }
        let after = self.confs.range(index + 1..).next().map(|(_, known)| known.clone());
        for other in before.iter().chain(&after) {
            if !voters.overlaps(other) {
                return Err(format!("{voters:?} behind entry {index} and {other:?} have quorums that do not meet"));
            }
        }
        self.confs.insert(index, voters);
        Ok(())
    }

    /// What a leader that was one before, too, takes for committed would survive the crash of everybody. `confs` are in
    /// force before and after it decided so.
    pub fn committed(&mut self, leader: &Member, members: &[Member], confs: [&ConfState; 2]) -> Result<(), String> {
        let Some(core) = &leader.core else { return Ok(()) };
        let index = core.node.raft.raft_log.committed;
        if index <= self.durable {
            return Ok(());
        }
        let Ok(term) = core.node.raft.raft_log.term(index) else { return Ok(()) };
        let holds = |id: u64| members.iter().any(|m| m.id == id && m.disk.holds(index, term));
        if !confs.iter().any(|conf| Voters::of(conf).is_quorum(holds)) {
            let holding: Vec<u64> = members.iter().map(|m| m.id).filter(|id| holds(*id)).collect();
            return Err(format!(
                "member {} takes entry {index} (term {term}) for committed, which the disks of {holding:?} hold, no \
                 quorum of {confs:?}",
                leader.id
            ));
        }
        self.durable = index;
        Ok(())
    }
}

/// A message that promises something leaves once what it promises is durable.
pub fn promise(disk: &Disk, message: &Message) -> Result<(), String> {
    let (from, term) = (message.from, message.term);
    let (durable_term, vote) = disk.voted();
    // In a later term it cannot vote in this one any more.
    let voted = |whom: u64| durable_term > term || (durable_term, vote) == (term, whom);
    let kept = match message.msg_type() {
        // What an older leader is told may be overwritten by now; it was kept first, and the answer is merely late.
        MessageType::MsgAppendResponse if !message.reject => message.index <= disk.last_index() || durable_term > term,
        MessageType::MsgRequestVoteResponse if !message.reject => voted(message.to),
        // Who leads has voted for itself; one who forgot could lead the same term again, with other entries.
        MessageType::MsgRequestVote | MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot => {
            voted(from)
        }
        _ => true,
    };
    let what = || format!("member {from} promises what its disk does not hold: {message:?}");
    if kept { Ok(()) } else { Err(what()) }
}

/// Of what members must agree on behind the same entry; cheap, the records are compared at the end.
fn digest(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    let sorted = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
    let conf = &state.conf;
    (sorted(&conf.voters), sorted(&conf.voters_outgoing), sorted(&conf.learners)).hash(&mut hasher);
    for member in state.members.values() {
        (member.id, member.is_learner).hash(&mut hasher);
    }
    state.removed.hash(&mut hasher);
    let kv = &state.kv;
    (kv.compacted(), kv.size_bytes(), kv.live_keys(), kv.leases().len()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_that_meet() {
        let check = |a: (&[u64], &[u64]), b: (&[u64], &[u64]), meet: bool| {
            let (a, b) = (Voters(a.0.to_vec(), a.1.to_vec()), Voters(b.0.to_vec(), b.1.to_vec()));
            assert_eq!(a.overlaps(&b), meet, "{a:?} {b:?}");
        };
        check((&[1, 2, 3], &[]), (&[1, 2, 3, 4], &[]), true);
        check((&[1, 2, 3], &[]), (&[1, 2, 3, 4, 5], &[]), false);
        check((&[1, 2, 3], &[]), (&[1, 4, 5], &[1, 2, 3]), true);
        check((&[1], &[]), (&[2], &[]), false);
    }
}
