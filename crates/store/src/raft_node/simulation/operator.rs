//! Whoever changes the members while all goes on: one change after the other, each at some member.

use tokio::sync::oneshot;

use super::clients::permit;
use super::dice::Dice;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::pb::kvraft::{MemberChange, member_change::Kind};
use crate::raft_node::core::Input;
use crate::raft_node::handle::{Answer, Proposal};
use crate::shared::Shared;

/// Ids of members that come later.
const FIRST_ID: u64 = 10;
const MAX_VOTERS: usize = 5;
/// Fewer are not made of a cluster that had them. The last two cannot part safely: the one that is left may not have
/// heard before the other is gone.
const MIN_VOTERS: usize = 3;
const PATIENCE: u64 = 1_500;

pub struct Operator {
    pub next_at: u64,
    next_id: u64,
    pending: Option<(u64, oneshot::Receiver<Answer>)>,
    /// Changes that were carried out.
    pub done: u64,
}

pub fn add(id: u64, is_learner: bool) -> MemberChange {
    let member = pb::Member { id, name: format!("m{id}"), is_learner, ..pb::Member::default() };
    MemberChange { kind: Kind::Add.into(), member: Some(member), ..MemberChange::default() }
}

pub fn of(kind: Kind, id: u64) -> MemberChange {
    let member = pb::Member { id, ..pb::Member::default() };
    MemberChange { kind: kind.into(), member: Some(member), ..MemberChange::default() }
}

impl Operator {
    pub fn new(first: u64) -> Operator {
        Operator { next_at: first, next_id: FIRST_ID, pending: None, done: 0 }
    }

    /// What is asked of a member that knows of these members. `down` are of no use at the moment.
    pub fn act(&mut self, now: u64, shared: &Shared, down: &[u64], dice: &mut Dice) -> Option<(&'static str, Input)> {
        self.next_at = now + dice.within(50..600);
        if let Some((until, answer)) = &mut self.pending {
            match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) if now < *until => return None,
                Ok(Ok(_)) => self.done += 1,
                _ => {}
            }
            self.pending = None;
        }
        let (voters, learners) = {
            let state = shared.state.read();
            let (learners, voters): (Vec<_>, Vec<_>) = state.members.values().partition(|m| m.is_learner);
            let ids = |members: Vec<&pb::Member>| members.iter().map(|m| m.id).collect::<Vec<_>>();
            (ids(voters), ids(learners))
        };
        if dice.percent(20) {
            return Some(("leader transfers", Input::TransferLeader(dice.pick(&voters)?)));
        }
        let (what, change) = self.choose(&voters, &learners, down, dice)?;
        let (answer, answered) = oneshot::channel();
        self.pending = Some((now + PATIENCE, answered));
        let op = Op::MemberChange(change);
        Some((what, Input::Propose(Proposal { op, only_in: None, answer, _permit: permit() })))
    }

    fn choose(
        &mut self,
        voters: &[u64],
        learners: &[u64],
        down: &[u64],
        dice: &mut Dice,
    ) -> Option<(&'static str, MemberChange)> {
        // Who is down is the first to go.
        let dead: Vec<u64> = voters.iter().copied().filter(|id| down.contains(id)).collect();
        let victim = if dead.is_empty() || dice.percent(30) { dice.pick(voters)? } else { dice.pick(&dead)? };
        if let Some(learner) = dice.pick(learners).filter(|_| dice.percent(70)) {
            return Some(match dice.within(0..6) {
                0 => ("learners removed", of(Kind::Remove, learner)),
                1 | 2 if voters.len() >= MIN_VOTERS => {
                    let and = vec![of(Kind::Remove, victim)];
                    ("promoted in a joint change", MemberChange { and, ..of(Kind::Promote, learner) })
                }
                _ => ("learners promoted", of(Kind::Promote, learner)),
            });
        }
        let id = self.next_id;
        self.next_id += 1;
        Some(match dice.within(0..6) {
            0 | 1 if learners.is_empty() => ("learners added", add(id, true)),
            2 if voters.len() < MAX_VOTERS => ("voters added", add(id, false)),
            3 if voters.len() >= MIN_VOTERS => {
                let and = vec![add(id, false)];
                ("replaced in a joint change", MemberChange { and, ..of(Kind::Remove, victim) })
            }
            _ if voters.len() > MIN_VOTERS || (voters.len() == MIN_VOTERS && dice.percent(20)) => {
                ("voters removed", of(Kind::Remove, victim))
            }
            _ => return None,
        })
    }
}
