//! Clients, and the record of what they were told.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use history::{
    Answer, At, Compare, Delete, KeyValue, Keys, Operation, Outcome as Told, Put, Range, RangeAnswer, Relation,
    Request, Target, Txn, TxnOp,
};
use mvcc::KeyRange;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::dice::Dice;
use super::plant::Plant;
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::pb::mvccpb;
use crate::raft_node::core::Input;
use crate::raft_node::handle::{Answer as Applied, Proposal};
use crate::shared::Shared;
use crate::state::Outcome;

const KEYS: u64 = 6;
/// After this a client gives up and does not know.
const PATIENCE: u64 = 3_000;
/// Milliseconds between two operations of a client, at most.
const THINKING: u64 = 40;
/// Seconds: some leases run out, some are kept alive, some outlast every seed.
const LEASE_TTLS: [i64; 3] = [1, 2, 86_400];

enum Waiting {
    Write(oneshot::Receiver<Applied>),
    /// Of the newest revision, or of one that was seen.
    Read(oneshot::Receiver<()>, Keys, At),
    Renewal(oneshot::Receiver<()>, i64),
}

struct Pending {
    member: u64,
    call: u64,
    request: Request,
    waiting: Waiting,
}

/// One client, with one operation at a time.
pub struct Client {
    number: u32,
    values: u32,
    leases: i64,
    granted: Vec<i64>,
    seen: Vec<(Bytes, i64)>,
    newest: i64,
    pending: Option<Pending>,
    pub next_at: u64,
    /// Those who answered it alone.
    alone: BTreeSet<u64>,
    pub plant: Option<Plant>,
}

fn key(n: u32) -> Bytes {
    Bytes::from(format!("k{n}"))
}

fn any_key(dice: &mut Dice) -> Bytes {
    key(u32::try_from(dice.within(0..KEYS)).expect("a few keys"))
}

pub fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit of its own")
}

fn wire_range(keys: &Keys) -> mvcc::Range {
    let keys = match keys {
        Keys::One(key) => KeyRange::Single(key.clone()),
        Keys::Prefix(prefix) => KeyRange::from_wire(prefix.clone(), Bytes::from_static(&[0])),
    };
    mvcc::Range { keys, ..everything() }
}

pub fn everything() -> mvcc::Range {
    let all =
        pb::RangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), ..Default::default() };
    crate::convert::range(all).expect("a plain range")
}

pub fn shown(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn range_answer(response: &pb::RangeResponse) -> Answer {
    let count = usize::try_from(response.count).expect("counts are small");
    Answer::Range(RangeAnswer { kvs: response.kvs.iter().map(shown).collect(), count, more: response.more })
}

/// What a member answers from its own state; nothing if the revision asked for is compacted.
pub fn read(shared: &Shared, keys: &Keys, at: At) -> Told {
    let revision = if let At::Revision(at) = at { at } else { 0 };
    match shared.state.read().kv.range(&mvcc::Range { revision, ..wire_range(keys) }) {
        Ok(result) => {
            let response = crate::convert::range_response(&result);
            let revision = response.header.as_ref().map_or(0, |h| h.revision);
            Told::Answered { revision, answer: range_answer(&response) }
        }
        Err(error) => Told::Refused(error.to_string()),
    }
}

/// What a member answers that has its read index; who does not lead passes the question on, which is left out here.
fn renewed(shared: &Shared, id: i64) -> Told {
    let revision = shared.state.read().kv.revision();
    match crate::service::renew_here(shared, id) {
        Ok(ttl_seconds) => Told::Answered { revision, answer: Answer::KeepAlive { ttl_seconds } },
        Err(_) => Told::Unknown,
    }
}

impl Client {
    pub fn new(number: u32, plant: Option<Plant>) -> Client {
        Client {
            number,
            values: 0,
            leases: 0,
            granted: Vec::new(),
            seen: Vec::new(),
            newest: 0,
            pending: None,
            next_at: 1,
            alone: BTreeSet::new(),
            plant,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    /// When it asks again, or gives up.
    pub fn next_event(&self) -> u64 {
        self.pending.as_ref().map_or(self.next_at, |pending| pending.call + PATIENCE + 1)
    }

    /// The member that it asked is gone, and perhaps the answer with it.
    pub fn lose(&mut self, now: u64, member: u64) -> Option<Operation> {
        let pending = self.pending.take_if(|pending| pending.member == member)?;
        Some(self.end(now, pending, Told::Unknown))
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        Bytes::from(format!("c{}-{}", self.number, self.values))
    }

    fn keys(dice: &mut Dice) -> Keys {
        if dice.percent(30) { Keys::all() } else { Keys::One(any_key(dice)) }
    }

    /// Asks a member for something; what is answered at once is returned.
    pub fn ask(
        &mut self,
        now: u64,
        member: u64,
        shared: &Shared,
        dice: &mut Dice,
    ) -> (Option<Input>, Option<Operation>) {
        self.next_at = now + dice.within(1..THINKING);
        let (request, op) = match dice.within(0..20) {
            0..=6 => self.put(dice),
            7..=10 => self.swap(dice),
            11 => self.both(dice),
            12 => Self::delete(dice),
            14 if dice.percent(70) => self.lease(dice),
            13 | 14 => match dice.pick(&self.granted) {
                Some(id) => return self.renewal(now, member, shared, id),
                None => self.lease(dice),
            },
            15 if dice.percent(30) && self.newest > 2 => self.compact(dice),
            15 | 16 => {
                let keys = Self::keys(dice);
                let outcome = read(shared, &keys, At::Serializable);
                let request = Request::Range(Range { keys, limit: 0 }, At::Serializable);
                return (None, Some(Operation { client: self.number, call: now, ret: now, request, outcome }));
            }
            17 if self.newest > 2 => {
                let at = At::Revision(i64::try_from(dice.within(2..self.newest.unsigned_abs() + 1)).unwrap_or(2));
                return self.newest(now, member, shared, Self::keys(dice), at);
            }
            _ => return self.newest(now, member, shared, Self::keys(dice), At::Latest),
        };
        (Some(self.submit(now, member, (request, op))), None)
    }

    /// As the service reads: a member that leads alone need not ask.
    pub fn newest(
        &mut self,
        now: u64,
        member: u64,
        shared: &Shared,
        keys: Keys,
        at: At,
    ) -> (Option<Input>, Option<Operation>) {
        let knew = self.plant == Some(Plant::AloneForever) && self.alone.contains(&member);
        if !shared.status.is_alone() && !knew {
            return (Some(self.linearizable(now, member, keys, at)), None);
        }
        self.alone.insert(member);
        let outcome = read(shared, &keys, at);
        let request = Request::Range(Range { keys, limit: 0 }, at);
        (None, Some(Operation { client: self.number, call: now, ret: now, request, outcome }))
    }

    pub fn linearizable(&mut self, now: u64, member: u64, keys: Keys, at: At) -> Input {
        let (ready, is_ready) = oneshot::channel();
        let request = Request::Range(Range { keys: keys.clone(), limit: 0 }, at);
        self.pending = Some(Pending { member, call: now, request, waiting: Waiting::Read(is_ready, keys, at) });
        Input::Read(ready)
    }

    /// One put, delete or compaction, as a directed case wants it.
    pub fn submit(&mut self, now: u64, member: u64, (request, op): (Request, Op)) -> Input {
        let (answer, answered) = oneshot::channel();
        self.pending = Some(Pending { member, call: now, request, waiting: Waiting::Write(answered) });
        Input::Propose(Proposal { op, only_in: None, answer, _permit: permit() })
    }

    fn compact(&mut self, dice: &mut Dice) -> (Request, Op) {
        // Often all of it: then nothing is left of a key whose deletion was the last that happened.
        let newest = self.newest.unsigned_abs();
        let at = if dice.percent(50) { newest } else { dice.within(2..newest + 1) };
        compaction(i64::try_from(at).unwrap_or(2))
    }

    /// Of everything that this client knows of.
    pub fn compact_all(&self) -> (Request, Op) {
        compaction(self.newest)
    }

    /// Grants a lease, or ends one.
    fn lease(&mut self, dice: &mut Dice) -> (Request, Op) {
        match dice.pick(&self.granted).filter(|_| dice.percent(50)) {
            Some(id) => {
                self.granted.retain(|known| *known != id);
                (Request::LeaseRevoke { id }, Op::LeaseRevoke(pb::LeaseRevokeRequest { id }))
            }
            None => self.grant(dice.pick(&LEASE_TTLS).expect("there are some")),
        }
    }

    pub fn grant(&mut self, ttl: i64) -> (Request, Op) {
        self.leases += 1;
        let id = i64::from(self.number + 1) * 1_000_000 + self.leases;
        (Request::LeaseGrant { id, ttl_seconds: ttl }, Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl }))
    }

    /// The newest that it was granted and that is not known to be gone.
    pub fn newest_lease(&self) -> Option<i64> {
        self.granted.last().copied()
    }

    /// As at a leader: a read index, then the lease.
    pub fn renewal(&mut self, now: u64, member: u64, shared: &Shared, id: i64) -> (Option<Input>, Option<Operation>) {
        if let Some(Ok(ttl_seconds)) = crate::service::renew_if_sure(shared, id) {
            let revision = shared.state.read().kv.revision();
            let outcome = Told::Answered { revision, answer: Answer::KeepAlive { ttl_seconds } };
            let request = Request::LeaseKeepAlive { id };
            return (None, Some(Operation { client: self.number, call: now, ret: now, request, outcome }));
        }
        let (ready, is_ready) = oneshot::channel();
        let request = Request::LeaseKeepAlive { id };
        self.pending = Some(Pending { member, call: now, request, waiting: Waiting::Renewal(is_ready, id) });
        (Some(Input::Read(ready)), None)
    }

    /// Two keys in one transaction, which nobody may see halfway.
    fn both(&mut self, dice: &mut Dice) -> (Request, Op) {
        use pb::request_op::Request as Inner;
        let puts = [(key(0), self.value()), (key(1 + u32::from(dice.percent(50))), self.value())];
        let wire = |(key, value): &(Bytes, Bytes)| {
            let put = pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
            pb::RequestOp { request: Some(Inner::RequestPut(put)) }
        };
        let asked = |(key, value): &(Bytes, Bytes)| {
            TxnOp::Put(Put { key: key.clone(), value: value.clone(), lease: 0, prev_kv: false })
        };
        let op = Op::Txn(pb::TxnRequest { success: puts.iter().map(wire).collect(), ..Default::default() });
        (Request::Txn(Txn { success: puts.iter().map(asked).collect(), ..Txn::default() }), op)
    }

    pub fn put(&mut self, dice: &mut Dice) -> (Request, Op) {
        let lease = dice.pick(&self.granted).filter(|_| dice.percent(30)).unwrap_or(0);
        self.put_with_lease(lease, dice)
    }

    pub fn put_with_lease(&mut self, lease: i64, dice: &mut Dice) -> (Request, Op) {
        let (key, value) = (any_key(dice), self.value());
        let op = Op::Put(pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() });
        (Request::Put(Put { key, value, lease, prev_kv: false }), op)
    }

    fn delete(dice: &mut Dice) -> (Request, Op) {
        deletion(Keys::One(any_key(dice)))
    }

    /// As the API server writes: swap if nobody was faster, else read.
    fn swap(&mut self, dice: &mut Dice) -> (Request, Op) {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        use pb::request_op::Request as Inner;
        let key = any_key(dice);
        let at = self.seen.iter().find(|(known, _)| *known == key).map_or(0, |(_, at)| *at);
        let value = self.value();
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(at)),
            ..Default::default()
        };
        let put = pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let op = Op::Txn(pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { request: Some(Inner::RequestPut(put)) }],
            failure: vec![pb::RequestOp { request: Some(Inner::RequestRange(get)) }],
        });
        let get = Range { keys: Keys::One(key.clone()), limit: 0 };
        let request = Request::Txn(Txn {
            compare: vec![Compare { key: key.clone(), relation: Relation::Equal, target: Target::Mod(at) }],
            success: vec![TxnOp::Put(Put { key, value, lease: 0, prev_kv: false })],
            failure: vec![TxnOp::Range(get)],
        });
        (request, op)
    }

    /// What has become of the operation, if that is known by now. `shared` is of the member asked, if it is up.
    pub fn poll(&mut self, now: u64, shared: impl Fn(u64) -> Option<Arc<Shared>>) -> Option<Operation> {
        let pending = self.pending.as_mut()?;
        let told = match &mut pending.waiting {
            Waiting::Write(answered) => match answered.try_recv() {
                Ok(Ok(outcome)) => Some(self::told(outcome)),
                Ok(Err(refusal)) if is_final(refusal) => Some(Told::Refused(refusal.to_string())),
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => Some(Told::Unknown),
                Err(oneshot::error::TryRecvError::Empty) => None,
            },
            Waiting::Read(ready, keys, at) => match ready.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) if self.plant != Some(Plant::ReadWithoutIndex) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(Told::Unknown),
                _ => Some(shared(pending.member).map_or(Told::Unknown, |shared| read(&shared, keys, *at))),
            },
            Waiting::Renewal(ready, id) => match ready.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(Told::Unknown),
                Ok(()) => Some(shared(pending.member).map_or(Told::Unknown, |shared| renewed(&shared, *id))),
            },
        };
        let told = told.or_else(|| (now > pending.call + PATIENCE).then_some(Told::Unknown))?;
        let pending = self.pending.take()?;
        Some(self.end(now, pending, told))
    }

    fn end(&mut self, now: u64, pending: Pending, outcome: Told) -> Operation {
        let Pending { call, request, .. } = pending;
        let operation = Operation { client: self.number, call, ret: now, request, outcome };
        self.learn(&operation);
        operation
    }

    fn learn(&mut self, operation: &Operation) {
        let lease = match &operation.request {
            Request::Put(put) => put.lease,
            Request::LeaseKeepAlive { id } => *id,
            _ => 0,
        };
        let gone = match &operation.outcome {
            Told::Refused(why) => *why == Refusal::LeaseNotFound.to_string(),
            Told::Answered { answer, .. } => matches!(answer, Answer::KeepAlive { ttl_seconds: 0 }),
            Told::Unknown => false,
        };
        if gone {
            self.granted.retain(|known| *known != lease);
        }
        let Told::Answered { revision, answer } = &operation.outcome else { return };
        self.newest = self.newest.max(*revision);
        if let Request::LeaseGrant { id, .. } = operation.request {
            self.granted.push(id);
        }
        if matches!(operation.request, Request::Range(_, At::Revision(_))) {
            return;
        }
        let kvs = match answer {
            Answer::Range(range) => range.kvs.clone(),
            Answer::Txn { answers, .. } => match answers.first() {
                Some(Answer::Range(range)) => range.kvs.clone(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        for kv in kvs {
            self.seen.retain(|(known, _)| *known != kv.key);
            self.seen.push((kv.key, kv.mod_revision));
        }
    }
}

pub fn deletion(keys: Keys) -> (Request, Op) {
    let mvcc::Range { keys: wire, .. } = wire_range(&keys);
    let (key, range_end) = match wire {
        KeyRange::Single(key) => (key, Bytes::new()),
        // The clients' prefixes are of all keys.
        _ => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
    };
    let op = Op::DeleteRange(pb::DeleteRangeRequest { key, range_end, ..Default::default() });
    (Request::Delete(Delete { keys, prev_kv: false }), op)
}

fn compaction(revision: i64) -> (Request, Op) {
    (Request::Compact { revision }, Op::Compaction(pb::CompactionRequest { revision, physical: false }))
}

fn done(revision: i64) -> Told {
    Told::Answered { revision, answer: Answer::Done }
}

/// Such an answer says that nothing happened and never will.
fn is_final(refusal: Refusal) -> bool {
    use Refusal::{Compacted, FutureRevision, LeaseExists, LeaseNotFound, NoLeader};
    matches!(refusal, Compacted | FutureRevision | LeaseExists | LeaseNotFound | NoLeader)
}

fn told(outcome: Outcome) -> Told {
    let revision = |header: &Option<pb::ResponseHeader>| header.as_ref().map_or(0, |h| h.revision);
    match outcome {
        Outcome::Put(r) => Told::Answered { revision: revision(&r.header), answer: Answer::Put { prev_kv: None } },
        Outcome::DeleteRange(r) => {
            let deleted = usize::try_from(r.deleted).expect("counts are small");
            Told::Answered { revision: revision(&r.header), answer: Answer::Delete { deleted, prev_kvs: Vec::new() } }
        }
        Outcome::Txn(r) => {
            use pb::response_op::Response as Inner;
            let answer = |op: &pb::ResponseOp| match &op.response {
                Some(Inner::ResponseRange(range)) => range_answer(range),
                _ => Answer::Put { prev_kv: None },
            };
            let answers = r.responses.iter().map(answer).collect();
            Told::Answered { revision: revision(&r.header), answer: Answer::Txn { succeeded: r.succeeded, answers } }
        }
        Outcome::LeaseGrant(r) => done(revision(&r.header)),
        Outcome::LeaseRevoke(r) => done(revision(&r.header)),
        Outcome::Compaction(r) => done(revision(&r.header)),
        other => unreachable!("no client asks for {other:?}"),
    }
}
