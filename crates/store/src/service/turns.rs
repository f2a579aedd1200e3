//! Turns by age: whoever puts a key below a name waits until no older key is left there. Locks and elections are made
//! of it, in the same keys as by the recipes of etcd's clients, so that both may take part in one queue.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::{Bounds, Event, Filter, KeyRange, KeyValue, Order, Range, Target};
use tonic::{Code, Response, Status};

use super::Context;
use super::kv::Kv;
use crate::auth::{Asker, Caller};
use crate::error::Refusal;
use crate::hub;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response as Done;
use crate::server::ConnectionId;

/// For how long a place is kept if nobody said by which lease.
const SESSION_TTL_SECONDS: i64 = 60;
const LEAVE_RETRY: Duration = Duration::from_millis(500);
/// One reading of what happened to a key.
const LIMITS: mvcc::Limits = mvcc::Limits { events: 100, bytes: 1 << 20 };
/// The one watch of each stream here.
const WATCH: i64 = 0;

/// All that stand in line under one name.
pub struct Queue {
    context: Context,
    asker: Asker,
    prefix: Bytes,
}

/// A place in the line: its key, and since when it is there.
#[derive(Debug, Clone)]
pub struct Place {
    pub key: Bytes,
    pub revision: i64,
    pub lease: i64,
    /// What was there already is told by its value.
    pub taken: Option<Bytes>,
    pub header: Option<pb::ResponseHeader>,
}

impl Queue {
    pub fn new(context: &Context, asker: Asker, name: &[u8]) -> Queue {
        let prefix = [name, b"/"].concat().into();
        Queue { context: context.clone(), asker, prefix }
    }

    fn keys(&self) -> KeyRange {
        KeyRange::Between(self.prefix.clone(), successor(&self.prefix))
    }

    async fn txn(&self, txn: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        Kv(self.context.clone()).txn_as(self.asker.clone(), txn).await
    }

    fn check_readable(&self) -> Result<(), Refusal> {
        Ok(self.context.shared.state.read().auth.guard(&self.asker).read(&self.keys())?)
    }

    /// As of now: who has waited was identified before other users and roles changed, which is no reason to refuse them.
    fn check_still_readable(&self) -> Result<(), Refusal> {
        let state = self.context.shared.state.read();
        let asker = match &self.asker {
            Asker::User(caller) => Asker::User(Caller { revision: state.auth.revision(), ..caller.clone() }),
            other => other.clone(),
        };
        Ok(state.auth.guard(&asker).read(&self.keys())?)
    }

    /// Takes a place, or finds the one that the lease has.
    pub async fn join(&self, lease: i64, value: Bytes) -> Result<Place, Status> {
        self.check_readable()?;
        let lease = self.context.session(&self.asker, lease).await?;
        let key = Bytes::from([&self.prefix, format!("{lease:x}").as_bytes()].concat());
        let put = pb::PutRequest { key: key.clone(), value, lease, ..pb::PutRequest::default() };
        let get = pb::RangeRequest { key: key.clone(), ..pb::RangeRequest::default() };
        let txn = since(&key, 0, Request::RequestPut(put), Some(Request::RequestRange(get)));
        let joined = self.txn(txn).await?;
        let found = joined.responses.first().and_then(|op| match &op.response {
            Some(Done::ResponseRange(range)) => range.kvs.first(),
            _ => None,
        });
        let revision = match found {
            Some(kv) => kv.create_revision,
            None => joined.header.as_ref().map_or(0, |header| header.revision),
        };
        let taken = found.map(|kv| kv.value.clone());
        Ok(Place { key, revision, lease, taken, header: joined.header })
    }

    /// Returns when the place is the first. If the waiting ends in any other way the place is given up.
    pub async fn turn(self, place: &Place) -> Result<pb::ResponseHeader, Status> {
        let mut waiting = Waiting { queue: Some(self), place: place.clone() };
        let queue = waiting.queue.as_ref().expect("not given up yet");
        queue.wait(place).await?;
        queue.check_still_readable()?;
        // What is known here may be old: the place may have ended with its lease meanwhile.
        queue.context.read_index().await?;
        let (first, at) = queue.find(KeyRange::Single(place.key.clone()), Bounds::default(), Order::None)?;
        if first.is_none_or(|kv| kv.create_revision != place.revision) {
            return Err(Refusal::SessionExpired.into());
        }
        let header = queue.context.shared.header(at);
        waiting.queue = None;
        Ok(header)
    }

    /// The state here holds the place, so it holds, or held, whatever is older.
    async fn wait(&self, place: &Place) -> Result<(), Refusal> {
        let older = Bounds { max_create: place.revision - 1, ..Bounds::default() };
        while let (Some(before), at) = self.find(self.keys(), older, Order::Descend)? {
            match self.gone(before.key.clone(), at).await {
                // It happened just now, and is compacted already: looks again.
                Ok(()) | Err(Refusal::Compacted) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    /// Returns when a key that was there at a revision is not there any more.
    async fn gone(&self, key: Bytes, at: i64) -> Result<(), Refusal> {
        let mut end = Follow::new(&self.context, KeyRange::Single(key), at + 1);
        while !end.next().await?.iter().any(Event::is_delete) {}
        Ok(())
    }

    /// The newest or the oldest of these keys, and the revision at which it was looked for.
    fn find(&self, keys: KeyRange, bounds: Bounds, order: Order) -> Result<(Option<Arc<KeyValue>>, i64), Refusal> {
        let state = self.context.shared.state.read();
        let range = Range { limit: 1, bounds, order, target: Target::Create, ..Range::of(keys) };
        let found = state.kv.range(&range)?;
        Ok((found.kvs.into_iter().next(), found.revision))
    }

    /// Whose turn it is, and as of which revision.
    pub async fn first(&self) -> Result<(Option<Arc<KeyValue>>, i64), Refusal> {
        self.context.read_index().await?;
        self.check_readable()?;
        self.find(self.keys(), Bounds::default(), Order::Ascend)
    }

    /// What happens to any place from a revision on.
    pub fn follow(&self, from: i64) -> Follow {
        Follow::new(&self.context, self.keys(), from)
    }

    /// Does something to a place if it is still the one it was; none if it is not.
    pub async fn change(&self, key: &Bytes, revision: i64, change: Request) -> Result<pb::TxnResponse, Status> {
        self.txn(since(key, revision, change, None)).await
    }

    /// Tries until it is done, or the place has ended with its lease: others stand behind it.
    async fn leave_surely(&self, place: &Place) {
        let shared = &self.context.shared;
        while let Err(error) = self.leave(&place.key, place.revision).await {
            tracing::debug!(%error, "a place in line is not given up yet");
            tokio::select! {
                () = tokio::time::sleep(LEAVE_RETRY) => {}
                () = self.context.drain.cancelled() => return,
            }
            if shared.state.read().kv.leases().get(place.lease).is_none() {
                return;
            }
        }
    }

    pub async fn leave(&self, key: &Bytes, revision: i64) -> Result<pb::TxnResponse, Status> {
        let delete = pb::DeleteRangeRequest { key: key.clone(), ..pb::DeleteRangeRequest::default() };
        self.change(key, revision, Request::RequestDeleteRange(delete)).await
    }
}

/// A transaction on a key that has been there since a revision.
fn since(key: &Bytes, revision: i64, then: Request, or_else: Option<Request>) -> pb::TxnRequest {
    let compare = pb::Compare {
        key: key.clone(),
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..pb::Compare::default()
    };
    let ops = |op: Option<Request>| op.map(|op| pb::RequestOp { request: Some(op) }).into_iter().collect();
    pb::TxnRequest { compare: vec![compare], success: ops(Some(then)), failure: ops(or_else) }
}

/// The first key that does not begin with a prefix, which ends in a slash.
fn successor(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("ends in a slash") += 1;
    end.into()
}

/// Leaves the line when it is dropped before the turn has come: the client has gone, or something failed.
struct Waiting {
    queue: Option<Queue>,
    place: Place,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        // The server's own doing, whatever the client may by now.
        let queue = Queue { asker: Asker::Member, ..queue };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let place = self.place.clone();
        runtime.spawn(async move { queue.leave_surely(&place).await });
    }
}

/// What happens to keys, as a watch inside the server.
pub struct Follow {
    context: Context,
    stream: Arc<hub::Stream>,
    filter: Filter,
    next: i64,
}

impl Follow {
    pub fn new(context: &Context, range: KeyRange, from: i64) -> Follow {
        let stream = Arc::new(hub::Stream::new(ConnectionId::default()));
        context.shared.hub.register(range.clone(), &stream, WATCH);
        // Something may have happened already.
        stream.mark(WATCH, from);
        let filter = Filter { range, no_put: false, no_delete: false };
        Follow { context: context.clone(), stream, filter, next: from }
    }

    /// Waits for what happens next. May return without anything.
    pub async fn next(&mut self) -> Result<Vec<Event>, Refusal> {
        tokio::select! {
            () = self.stream.marked() => {}
            () = self.context.drain.cancelled() => return Err(Refusal::Stopped),
        }
        // Nothing happened before the mark; what was before it may be compacted.
        let marked = self.stream.take_marked().remove(&WATCH).unwrap_or(self.next);
        let from = self.next.max(marked);
        let batch = self.context.shared.state.read().kv.history().read(from..i64::MAX, &self.filter, LIMITS)?;
        self.next = batch.next;
        if !batch.done {
            self.stream.mark(WATCH, self.next);
        }
        Ok(batch.events)
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.context.shared.hub.unregister(&self.filter.range, &self.stream, WATCH);
    }
}

pub fn from_inside(status: Status) -> Status {
    match status.code() {
        Code::Unavailable => status,
        _ => Status::unknown(status.message()),
    }
}

impl Context {
    /// etcd asks itself for what locks and elections do, and hands on the words of a refusal, not its code. Whoever
    /// could not be served is told so all the same: clients try again by it.
    pub fn answer_inside<T>(
        &self,
        service: &'static str,
        method: &'static str,
        answer: Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        self.answer(service, method, answer.map_err(from_inside))
    }

    /// The lease that was named, or one that ends by itself.
    pub async fn session(&self, asker: &Asker, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let grant = pb::LeaseGrantRequest { ttl: SESSION_TTL_SECONDS, ..pb::LeaseGrantRequest::default() };
        Ok(self.grant(asker.clone(), grant).await?.id)
    }
}
