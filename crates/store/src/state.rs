//! The replicated state: the key space, the members, the alarms and who may do what, changed by commands of
//! the log and by nothing else.
//!
//! Applying is deterministic: no clock, no randomness, no configuration of this member.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mvcc::{KeyValue, Revision};
use raft::prelude::ConfState;

use crate::auth::{self, Asker, Effect};
use crate::convert;
use crate::error::Refusal;
use crate::members;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::{self, command::Op};

/// Leases shorter than this could not be renewed through a change of leaders; etcd's bound
/// with its default election timeout.
const MIN_LEASE_TTL_SECONDS: i64 = 2;

/// The last log entry that the state contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    pub index: u64,
    pub term: u64,
}

/// The log of a new cluster begins behind this entry, so that one who joins, with nothing, always lags too far behind
/// for entries and is sent a snapshot: who the founders are is in no entry.
pub const FOUNDED: Applied = Applied { index: 1, term: 1 };

#[derive(Debug, Default)]
pub struct State {
    pub cluster_id: u64,
    pub kv: mvcc::Store,
    pub members: BTreeMap<u64, pb::Member>,
    /// Ids that may not come back.
    pub removed: BTreeSet<u64>,
    /// Member and alarm type.
    pub alarms: BTreeSet<(u64, i32)>,
    pub auth: auth::Store,
    pub conf: ConfState,
    pub applied: Applied,
}

/// What a command answered.
#[derive(Debug)]
pub enum Outcome {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compaction(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    Alarm(pb::AlarmResponse),
    Published,
    Auth(Effect),
    Members(Vec<pb::Member>),
}

impl State {
    /// The state every founding member begins with.
    pub fn founded(bootstrap: kvraft::Bootstrap) -> State {
        let members: BTreeMap<_, _> = bootstrap.members.into_iter().map(|m| (m.id, m)).collect();
        let voters = members.values().filter(|m| !m.is_learner).map(|m| m.id).collect();
        State {
            cluster_id: bootstrap.cluster_id,
            conf: ConfState { voters, ..ConfState::default() },
            members,
            applied: FOUNDED,
            ..State::default()
        }
    }

    pub fn member_list(&self) -> Vec<pb::Member> {
        self.members.values().cloned().collect()
    }

    /// Whether a member was removed for good. One that was removed jointly has a voice until the joint configuration is
    /// left.
    pub fn is_gone(&self, id: u64) -> bool {
        self.removed.contains(&id) && !self.conf.voters_outgoing.contains(&id)
    }

    /// Applies a command if whoever asks may do what it does.
    pub fn apply(&mut self, op: Op) -> Result<Outcome, Refusal> {
        let (asker, op) = auth::attribution(op);
        self.check_whole(&op)?;
        self.check_space(&op)?;
        self.authorize(&asker, &op)?;
        Ok(match op {
            Op::Put(r) => Outcome::Put(convert::put_response(&self.kv.put(convert::put(own_put(r)))?)),
            Op::DeleteRange(r) => {
                Outcome::DeleteRange(convert::delete_response(&self.kv.delete_range(&convert::delete(r))))
            }
            Op::Txn(r) => Outcome::Txn(convert::txn_response(&self.kv.txn(convert::txn(own_txn(r))?)?)),
            Op::Compaction(r) => self.compact(&r)?,
            Op::LeaseGrant(r) => self.grant(&r)?,
            Op::LeaseRevoke(r) => {
                self.kv.revoke(r.id)?;
                Outcome::LeaseRevoke(pb::LeaseRevokeResponse { header: self.header() })
            }
            Op::Alarm(r) => Outcome::Alarm(self.alarm(&r)),
            Op::Publish(member) => {
                if let Some(known) = self.members.get_mut(&member.id) {
                    known.name = member.name;
                    known.client_ur_ls = member.client_ur_ls;
                }
                Outcome::Published
            }
            Op::Auth(change) => Outcome::Auth(self.change_auth(change)?),
            Op::Attributed(_) => unreachable!("only plain commands are signed"),
            Op::MemberUpdate(member) => {
                members::check_update(self, &member)?;
                let known = self.members.get_mut(&member.id).ok_or(Refusal::MemberNotFound)?;
                known.peer_ur_ls = member.peer_ur_ls;
                Outcome::Members(self.member_list())
            }
            // Such a command is the context of a change of Raft's configuration, which is applied with Raft.
            Op::MemberChange(_) => return Err(Refusal::MemberNotFound),
        })
    }

    /// Members that differ go on differing: until the alarm is taken back nothing is written.
    fn check_whole(&self, op: &Op) -> Result<(), Refusal> {
        let writes = match op {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::Compaction(_) => true,
            Op::LeaseGrant(_) | Op::LeaseRevoke(_) => true,
            Op::Alarm(_) | Op::Auth(_) | Op::MemberUpdate(_) | Op::MemberChange(_) => false,
            Op::Publish(_) | Op::Attributed(_) => false,
        };
        if writes && self.is_raised(pb::AlarmType::Corrupt) { Err(Refusal::Corrupt) } else { Ok(()) }
    }

    /// Who raised the alarm may have been told of the last writes before; those behind it come too late.
    fn check_space(&self, op: &Op) -> Result<(), Refusal> {
        if !self.is_raised(pb::AlarmType::Nospace) {
            return Ok(());
        }
        match op {
            Op::Put(_) | Op::LeaseGrant(_) => Err(Refusal::NoSpace),
            Op::Txn(r) if put_bytes(r) > 0 => Err(Refusal::NoSpace),
            _ => Ok(()),
        }
    }

    /// Whether an asker may do what a command does. [`State::apply`] asks by itself; changes of Raft's configuration
    /// are not applied by it.
    pub fn authorize(&self, asker: &Asker, op: &Op) -> Result<(), auth::Error> {
        let guard = self.auth.guard(asker);
        let leases = self.kv.leases();
        match op {
            Op::Put(r) => guard.put(r, leases),
            Op::DeleteRange(r) => guard.delete(r),
            Op::Txn(r) => guard.txn(r, leases),
            Op::LeaseGrant(_) => guard.identified(),
            Op::LeaseRevoke(r) => guard.write_attached(leases.get(r.id)),
            // The history is everybody's, and an alarm stops everybody.
            Op::Compaction(_) | Op::Alarm(_) => guard.admin(),
            Op::MemberUpdate(_) | Op::MemberChange(_) => guard.admin(),
            Op::Auth(change) => change.change.as_ref().map_or(Ok(()), |change| guard.change(change)),
            // What members say of themselves.
            Op::Publish(_) | Op::Attributed(_) => Ok(()),
        }
    }

    fn change_auth(&mut self, change: kvraft::AuthChange) -> Result<Effect, auth::Error> {
        let change = change.change.expect("whoever decoded the command looked inside");
        self.auth.apply(change, self.applied.index)
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        convert::revision_header(self.kv.revision())
    }

    fn compact(&mut self, r: &pb::CompactionRequest) -> Result<Outcome, Refusal> {
        // Nothing lies before the first revision; to compact there is to compact nothing.
        if r.revision != 0 || self.kv.compacted() != 0 {
            self.kv.compact(r.revision)?;
        }
        Ok(Outcome::Compaction(pb::CompactionResponse { header: self.header() }))
    }

    fn grant(&mut self, r: &pb::LeaseGrantRequest) -> Result<Outcome, Refusal> {
        let ttl = r.ttl.max(MIN_LEASE_TTL_SECONDS);
        self.kv.grant(r.id, ttl)?;
        let error = String::new();
        Ok(Outcome::LeaseGrant(pb::LeaseGrantResponse { header: self.header(), id: r.id, ttl, error }))
    }

    fn alarm(&mut self, r: &pb::AlarmRequest) -> pb::AlarmResponse {
        use pb::alarm_request::AlarmAction;
        let named = (r.member_id, r.alarm);
        let found: Vec<(u64, i32)> = match r.action() {
            // Whose it is does not matter.
            AlarmAction::Get => self.alarms.iter().filter(|(_, a)| r.alarm == 0 || r.alarm == *a).copied().collect(),
            AlarmAction::Activate if r.alarm == 0 => Vec::new(),
            AlarmAction::Activate => {
                self.alarms.insert(named);
                vec![named]
            }
            AlarmAction::Deactivate => Vec::from_iter(self.alarms.take(&named)),
        };
        let alarms = found.into_iter().map(|(member_id, alarm)| pb::AlarmMember { member_id, alarm }).collect();
        pb::AlarmResponse { header: self.header(), alarms }
    }

    /// Whether any member has raised an alarm.
    pub fn is_raised(&self, alarm: pb::AlarmType) -> bool {
        self.alarms.iter().any(|(_, raised)| *raised == i32::from(alarm))
    }

    /// Everything but the records, for a checkpoint or a snapshot.
    pub fn head(&self) -> kvraft::Head {
        let leases = self.kv.leases().iter().map(|(id, lease)| kvraft::Lease { id, ttl: lease.ttl_seconds });
        let alarms =
            self.alarms.iter().map(|(member_id, alarm)| pb::AlarmMember { member_id: *member_id, alarm: *alarm });
        kvraft::Head {
            cluster_id: self.cluster_id,
            applied_index: self.applied.index,
            applied_term: self.applied.term,
            revision: self.kv.revision(),
            compact_revision: self.kv.compacted(),
            voters: self.conf.voters.clone(),
            learners: self.conf.learners.clone(),
            voters_outgoing: self.conf.voters_outgoing.clone(),
            learners_next: self.conf.learners_next.clone(),
            auto_leave: self.conf.auto_leave,
            members: self.members.values().cloned().collect(),
            alarms: alarms.collect(),
            leases: leases.collect(),
            removed: self.removed.iter().copied().collect(),
            auth: Some(self.auth.head()),
            installed: false,
        }
    }

    pub fn restore(
        head: kvraft::Head,
        records: impl IntoIterator<Item = (Revision, KeyValue)>,
    ) -> Result<State, mvcc::Error> {
        let leases = head.leases.iter().map(|lease| (lease.id, lease.ttl));
        Ok(State {
            conf: conf_of(&head),
            removed: head.removed.iter().copied().collect(),
            cluster_id: head.cluster_id,
            kv: mvcc::Store::restore(head.revision, head.compact_revision, leases, records)?,
            members: head.members.into_iter().map(|m| (m.id, m)).collect(),
            auth: auth::Store::restore(head.auth),
            alarms: head.alarms.into_iter().map(|a| (a.member_id, a.alarm)).collect(),
            applied: Applied { index: head.applied_index, term: head.applied_term },
        })
    }
}

/// What a transaction may add, the way that adds more.
pub fn put_bytes(r: &pb::TxnRequest) -> usize {
    use pb::request_op::Request;
    let bytes = |op: &pb::RequestOp| match &op.request {
        Some(Request::RequestPut(r)) => r.key.len() + r.value.len(),
        Some(Request::RequestTxn(r)) => put_bytes(r),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    };
    let [success, failure] = [&r.success, &r.failure].map(|ops| ops.iter().map(bytes).sum::<usize>());
    success.max(failure)
}

/// Raft's configuration as a head keeps it.
pub fn conf_of(head: &kvraft::Head) -> ConfState {
    ConfState {
        voters: head.voters.clone(),
        learners: head.learners.clone(),
        voters_outgoing: head.voters_outgoing.clone(),
        learners_next: head.learners_next.clone(),
        auto_leave: head.auto_leave,
    }
}

/// A request's keys and values are slices of the network buffer or the log entry they came
/// in. What stays in the store is copied out once, so that a small key does not keep a large
/// buffer alive.
fn own(bytes: &mut Bytes) {
    *bytes = Bytes::copy_from_slice(bytes);
}

fn own_put(mut r: pb::PutRequest) -> pb::PutRequest {
    own(&mut r.key);
    own(&mut r.value);
    r
}

fn own_txn(mut r: pb::TxnRequest) -> pb::TxnRequest {
    use pb::request_op::Request;
    for op in r.success.iter_mut().chain(&mut r.failure) {
        op.request = op.request.take().map(|request| match request {
            Request::RequestPut(r) => Request::RequestPut(own_put(r)),
            Request::RequestTxn(r) => Request::RequestTxn(own_txn(r)),
            other => other,
        });
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Caller, Error, ROOT};
    use kvraft::auth_change::Change;
    use prost::Message;

    fn secured() -> State {
        let mut state = State::default();
        state.members.insert(1, pb::Member { id: 1, ..Default::default() });
        let root = || ROOT.to_owned();
        for change in [
            Change::UserAdd(pb::AuthUserAddRequest { name: root(), ..Default::default() }),
            Change::UserGrantRole(pb::AuthUserGrantRoleRequest { user: root(), role: root() }),
            Change::UserAdd(pb::AuthUserAddRequest { name: "ann".to_owned(), ..Default::default() }),
            Change::Enable(pb::AuthEnableRequest {}),
        ] {
            state.apply(Op::Auth(kvraft::AuthChange { change: Some(change) })).expect("valid");
        }
        state
    }

    /// What nobody, ann and root are answered, each on a store of its own. A member may always.
    fn check(op: &Op, nobody: Result<(), Error>, ann: Result<(), Error>) {
        let asker =
            |user: &str, state: &State| Asker::User(Caller { user: user.to_owned(), revision: state.auth.revision() });
        let answer = |asker: &dyn Fn(&State) -> Asker| {
            let mut state = secured();
            state.kv.grant(7, 10).expect("a new lease");
            let put = mvcc::Put { key: "key".into(), lease: 7, ..mvcc::Put::default() };
            state.kv.put(put).expect("a plain put");
            let command = kvraft::Command { op: Some(asker(&state).sign(op.clone())) };
            let logged = kvraft::Command::decode(&command.encode_to_vec()[..]).expect("just encoded");
            assert_eq!(logged, command);
            state.apply(logged.op.expect("just encoded")).map(|_| ())
        };
        let refused = |expected: Result<(), Error>| expected.map_err(Refusal::Auth);
        assert_eq!(answer(&|_| Asker::Nobody), refused(nobody), "nobody: {op:?}");
        assert_eq!(answer(&|state| asker("ann", state)), refused(ann), "ann: {op:?}");
        assert_eq!(answer(&|state| asker(ROOT, state)), Ok(()), "root: {op:?}");
        assert_eq!(answer(&|_| Asker::Member), Ok(()), "a member: {op:?}");
    }

    #[test]
    fn a_command_is_judged_when_it_is_applied() {
        let (nobody, denied) = (Err(Error::UserEmpty), Err(Error::PermissionDenied));
        let key = || Bytes::from("key");
        check(&Op::Put(pb::PutRequest { key: key(), ..Default::default() }), nobody, denied);
        check(&Op::DeleteRange(pb::DeleteRangeRequest { key: key(), ..Default::default() }), nobody, denied);
        let compare = vec![pb::Compare { key: key(), ..Default::default() }];
        check(&Op::Txn(pb::TxnRequest { compare, ..Default::default() }), nobody, denied);
        check(&Op::LeaseGrant(pb::LeaseGrantRequest { id: 8, ttl: 10 }), nobody, Ok(()));
        check(&Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 }), nobody, denied);
        check(&Op::Compaction(pb::CompactionRequest { revision: 2, physical: false }), nobody, denied);
        check(&Op::Alarm(pb::AlarmRequest::default()), nobody, denied);
        let disable = Some(Change::Disable(pb::AuthDisableRequest {}));
        check(&Op::Auth(kvraft::AuthChange { change: disable }), nobody, denied);
        check(&Op::MemberUpdate(pb::Member { id: 1, ..Default::default() }), nobody, denied);
        check(&Op::Publish(pb::Member::default()), Ok(()), Ok(()));
    }

    #[test]
    fn a_corrupt_cluster_takes_no_writes_until_the_alarm_is_taken_back() {
        use pb::alarm_request::AlarmAction;
        let alarm = |action: AlarmAction| pb::AlarmRequest {
            action: action.into(),
            member_id: 1,
            alarm: pb::AlarmType::Corrupt.into(),
        };
        let key = || Bytes::from("key");
        let writes = || {
            [
                Op::Put(pb::PutRequest { key: key(), ..Default::default() }),
                Op::DeleteRange(pb::DeleteRangeRequest { key: key(), ..Default::default() }),
                Op::Txn(pb::TxnRequest::default()),
                Op::LeaseGrant(pb::LeaseGrantRequest { id: 1, ttl: 10 }),
                Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }),
                Op::Compaction(pb::CompactionRequest { revision: 2, physical: false }),
            ]
        };
        let mut state = State::default();
        state.apply(Op::Alarm(alarm(AlarmAction::Activate))).expect("alarms can be raised");
        for write in writes() {
            assert_eq!(state.apply(write).map(|_| ()), Err(Refusal::Corrupt));
        }
        state.apply(Op::Alarm(alarm(AlarmAction::Deactivate))).expect("and taken back");
        for write in writes() {
            assert_eq!(state.apply(write.clone()).map(|_| ()), Ok(()), "{write:?}");
        }
    }

    #[test]
    fn what_comes_behind_the_alarm_adds_nothing() {
        use pb::request_op::Request;
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: 1,
            alarm: pb::AlarmType::Nospace.into(),
        };
        let mut state = State::default();
        state.apply(Op::Alarm(alarm)).expect("alarms can be raised");
        let put = pb::PutRequest { key: "key".into(), ..Default::default() };
        let txn = |request: Request| {
            let op = pb::RequestOp { request: Some(request) };
            Op::Txn(pb::TxnRequest { failure: vec![op], ..Default::default() })
        };
        let delete = pb::DeleteRangeRequest { key: "key".into(), ..Default::default() };
        for (op, adds) in [
            (Op::Put(put.clone()), true),
            (txn(Request::RequestPut(put)), true),
            (Op::LeaseGrant(pb::LeaseGrantRequest { id: 1, ttl: 10 }), true),
            (Op::DeleteRange(delete.clone()), false),
            (txn(Request::RequestDeleteRange(delete)), false),
        ] {
            let refused = state.apply(op.clone()).err();
            assert_eq!(refused, adds.then_some(Refusal::NoSpace), "{op:?}");
        }
    }

    /// As etcd has it: who disarms names each member.
    #[test]
    fn an_alarm_is_a_members() {
        use pb::alarm_request::AlarmAction::{Activate, Deactivate, Get};
        let kind = i32::from(pb::AlarmType::Nospace);
        let mut state = State::default();
        for (action, member_id, alarm, expected) in [
            (Activate, 1, kind, &[(1, kind)][..]),
            (Activate, 2, kind, &[(2, kind)]),
            (Activate, 2, kind, &[(2, kind)]),
            (Get, 7, 0, &[(1, kind), (2, kind)]),
            (Deactivate, 0, kind, &[]),
            (Deactivate, 1, 0, &[]),
            (Deactivate, 1, kind, &[(1, kind)]),
            (Get, 0, kind, &[(2, kind)]),
        ] {
            let asked = pb::AlarmRequest { action: action.into(), member_id, alarm };
            let found: Vec<_> = state.alarm(&asked).alarms.iter().map(|a| (a.member_id, a.alarm)).collect();
            assert_eq!(found, expected, "{asked:?}");
        }
    }

    #[test]
    fn a_head_keeps_users_and_roles() {
        let state = secured();
        let restored = State::restore(state.head(), []).expect("its own head");
        assert_eq!(restored.auth, state.auth);
        let old = kvraft::Head { auth: None, ..state.head() };
        assert_eq!(State::restore(old, []).expect("a head of an older version").auth, auth::Store::default());
    }
}
