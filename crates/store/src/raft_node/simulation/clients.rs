//! Clients and watchers, and the record of what they were told.

use std::sync::Arc;

use bytes::Bytes;
use history::{
    Answer, At, Compare, Delete, Event, KeyValue, Keys, Message, Operation, Outcome as Told, Put, Range, RangeAnswer,
    Relation, Request, Response, Target, Txn, TxnOp, Watch,
};
use mvcc::{Filter, KeyRange, Limits};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::pb::mvccpb;
use crate::raft_node::core::Input;
use crate::raft_node::handle::{Answer as Applied, Proposal};
use crate::shared::Shared;
use crate::state::Outcome;

const KEYS: u32 = 6;
/// After this a client gives up and does not know.
const PATIENCE: u64 = 3_000;
const LIMITS: Limits = Limits { events: 100, bytes: 1 << 20 };

enum Waiting {
    Write(oneshot::Receiver<Applied>),
    Read(oneshot::Receiver<()>, Keys),
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
    seen: Vec<(Bytes, i64)>,
    pending: Option<Pending>,
}

fn key(n: u32) -> Bytes {
    Bytes::from(format!("k{n}"))
}

fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit of its own")
}

fn wire_range(keys: &Keys) -> mvcc::Range {
    let keys = match keys {
        Keys::One(key) => KeyRange::Single(key.clone()),
        Keys::Prefix(prefix) => KeyRange::from_wire(prefix.clone(), Bytes::from_static(&[0])),
    };
    mvcc::Range { keys, ..everything() }
}

fn everything() -> mvcc::Range {
    let all =
        pb::RangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), ..Default::default() };
    crate::convert::range(all).expect("a plain range")
}

fn shown(kv: &mvccpb::KeyValue) -> KeyValue {
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

/// What a member answers from its own state.
pub fn read(shared: &Shared, keys: &Keys) -> (i64, Answer) {
    let result = shared.state.read().kv.range(&wire_range(keys)).expect("the newest revision is there");
    let response = crate::convert::range_response(&result);
    (response.header.as_ref().map_or(0, |h| h.revision), range_answer(&response))
}

impl Client {
    pub fn new(number: u32) -> Client {
        Client { number, values: 0, seen: Vec::new(), pending: None }
    }

    pub fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        Bytes::from(format!("c{}-{}", self.number, self.values))
    }

    fn keys(rng: &mut StdRng) -> Keys {
        if rng.random_bool(0.3) { Keys::all() } else { Keys::One(key(rng.random_range(0..KEYS))) }
    }

    /// Asks a member for something; what is answered at once is returned.
    pub fn ask(
        &mut self,
        now: u64,
        member: u64,
        shared: &Shared,
        rng: &mut StdRng,
    ) -> (Option<Input>, Option<Operation>) {
        let (request, op) = match rng.random_range(0..10) {
            0..=3 => self.put(rng),
            4 | 5 => self.swap(rng),
            6 => Self::delete(rng),
            7 => {
                let keys = Self::keys(rng);
                let (revision, answer) = read(shared, &keys);
                let request = Request::Range(Range { keys, limit: 0 }, At::Serializable);
                let outcome = Told::Answered { revision, answer };
                return (None, Some(Operation { client: self.number, call: now, ret: now, request, outcome }));
            }
            _ => return (Some(self.linearizable(now, member, Self::keys(rng))), None),
        };
        let (answer, answered) = oneshot::channel();
        self.pending = Some(Pending { member, call: now, request, waiting: Waiting::Write(answered) });
        (Some(Input::Propose(Proposal { op, answer, _permit: permit() })), None)
    }

    pub fn linearizable(&mut self, now: u64, member: u64, keys: Keys) -> Input {
        let (ready, is_ready) = oneshot::channel();
        let request = Request::Range(Range { keys: keys.clone(), limit: 0 }, At::Latest);
        self.pending = Some(Pending { member, call: now, request, waiting: Waiting::Read(is_ready, keys) });
        Input::Read(ready)
    }

    fn put(&mut self, rng: &mut StdRng) -> (Request, Op) {
        let (key, value) = (key(rng.random_range(0..KEYS)), self.value());
        let op = Op::Put(pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() });
        (Request::Put(Put { key, value, lease: 0, prev_kv: false }), op)
    }

    fn delete(rng: &mut StdRng) -> (Request, Op) {
        let key = key(rng.random_range(0..KEYS));
        let op = Op::DeleteRange(pb::DeleteRangeRequest { key: key.clone(), ..Default::default() });
        (Request::Delete(Delete { keys: Keys::One(key), prev_kv: false }), op)
    }

    /// As the API server writes: swap if nobody was faster, else read.
    fn swap(&mut self, rng: &mut StdRng) -> (Request, Op) {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        use pb::request_op::Request as Inner;
        let key = key(rng.random_range(0..KEYS));
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
                Ok(Err(Refusal::NoLeader)) => Some(Told::Refused("no leader".to_owned())),
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => Some(Told::Unknown),
                Err(oneshot::error::TryRecvError::Empty) => None,
            },
            Waiting::Read(ready, keys) => match ready.try_recv() {
                Ok(()) => Some(shared(pending.member).map_or(Told::Unknown, |shared| {
                    let (revision, answer) = read(&shared, keys);
                    Told::Answered { revision, answer }
                })),
                Err(oneshot::error::TryRecvError::Closed) => Some(Told::Unknown),
                Err(oneshot::error::TryRecvError::Empty) => None,
            },
        };
        let told = told.or_else(|| (now > pending.call + PATIENCE).then_some(Told::Unknown))?;
        let Pending { call, request, .. } = self.pending.take()?;
        let operation = Operation { client: self.number, call, ret: now, request, outcome: told };
        self.learn(&operation);
        Some(operation)
    }

    fn learn(&mut self, operation: &Operation) {
        let Told::Answered { answer, .. } = &operation.outcome else { return };
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
        other => unreachable!("no client asks for {other:?}"),
    }
}

/// Follows everything, at one member after the other: it goes on where it was.
pub struct Watcher {
    pub member: u64,
    next: i64,
    pub watch: Watch,
}

impl Watcher {
    pub fn new(number: u32, member: u64) -> Watcher {
        let watch = Watch {
            client: number,
            call: 0,
            keys: Keys::all(),
            start_revision: 2,
            prev_kv: false,
            no_put: false,
            no_delete: false,
            fragment: false,
            responses: vec![Response { at: 0, revision: 1, message: Message::Created }],
        };
        Watcher { member, next: 2, watch }
    }

    pub fn read(&mut self, now: u64, shared: &Shared) {
        let filter = Filter { range: everything().keys, no_put: false, no_delete: false };
        let (batch, revision) = {
            let state = shared.state.read();
            if state.kv.revision() < self.next {
                return;
            }
            (state.kv.history().read(self.next, &filter, LIMITS).expect("nothing is compacted"), state.kv.revision())
        };
        self.next = batch.next;
        if batch.events.is_empty() {
            return;
        }
        let event = |event: &mvcc::Event| Event { kv: shown(&crate::convert::key_value(&event.kv)), prev_kv: None };
        let events = batch.events.iter().map(event).collect();
        let message = Message::Events { events, fragment: false };
        self.watch.responses.push(Response { at: now, revision, message });
    }

    /// At the end: everything up to here was seen.
    pub fn finish(&mut self, now: u64, revision: i64) {
        self.watch.responses.push(Response { at: now, revision, message: Message::Progress });
    }
}
