//! Watch streams: one task per stream, any number of watches on it.
//!
//! A watch is a place in the history. Being woken, the task reads on from there and sends
//! whole transactions; a client that reads slowly slows down its own stream and no other. Watches that are far behind
//! read on together, a part of the history at a time, and others have their turn in between.
//! The task is HTTP/2's own of the stream: an event wakes one task per watcher, not two.

mod fragments;
mod reading;
mod responses;

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures::Stream;
use mvcc::{Filter, KeyRange};
use tokio::time::MissedTickBehavior;
use tonic::{Request, Response, Status, Streaming};

use super::access::Credentials;
use super::{Context, requires_leader};
use crate::error::Refusal;
use crate::hub;
use crate::leader_watch;
use crate::metrics::Counted;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::watch_create_request::FilterType;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::server;
use reading::Behind;
use responses::{Answer, Driven, Responses};

const SERVICE: &str = "etcdserverpb.Watch";
/// The id under which a stream as a whole is spoken of, and that of a watch never made.
const NO_WATCH: i64 = -1;

pub struct Watch(pub Context);

type Answers = Pin<Box<dyn Stream<Item = Answer> + Send>>;

#[tonic::async_trait]
impl pb::watch_server::Watch for Watch {
    type WatchStream = Counted<Answers>;

    async fn watch(&self, r: Request<Streaming<pb::WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        if let Err(refusal) = self.0.check_voter() {
            return self.0.answer_stream(SERVICE, "Watch", Err(refusal.into()));
        }
        let responses = Responses::default();
        let connection = r.extensions().get().copied().unwrap_or_default();
        let task = Task {
            context: self.0.clone(),
            credentials: Credentials::of(&r),
            requires_leader: requires_leader(r.metadata().as_ref()),
            stream: Arc::new(hub::Stream::new(connection)),
            watches: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            next_id: 0,
            to_notify: 0,
            responses: responses.clone(),
            said: 0,
            owed: 0,
            behind: Behind::default(),
            looked_at: 0,
        };
        let stream: Answers = Box::pin(Driven { task: Some(Box::pin(task.run(r.into_inner()))), responses });
        self.0.answer_stream(SERVICE, "Watch", Ok(stream))
    }
}

/// One watch of a stream.
struct Place {
    filter: Filter,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Whether anything was sent since the last progress notification.
    spoke: bool,
    /// The revision of the newest event sent.
    said: i64,
    /// The first revision not read yet.
    next: i64,
    /// Up to here what was before is compacted, and not told: it may be known still, but not for sure.
    compacted: i64,
}

struct Task {
    context: Context,
    /// Shown when the stream was opened; every watch is judged by them when it is made.
    credentials: Credentials,
    requires_leader: bool,
    stream: Arc<hub::Stream>,
    watches: BTreeMap<i64, Place>,
    /// Those that a compaction has cancelled; their ids are free once the client has cancelled them as well.
    cancelled: BTreeSet<i64>,
    next_id: i64,
    /// How many watches are told of their progress by the clock.
    to_notify: usize,
    responses: Responses,
    /// The revision of the newest event sent.
    said: i64,
    /// Progress notifications asked for and not sent.
    owed: usize,
    behind: Behind,
    /// Events since others had their turn.
    looked_at: usize,
}

impl Task {
    async fn run(mut self, requests: Streaming<pb::WatchRequest>) {
        self.context.shared.hub.stream_opened();
        // However it ends, and if it is not polled any more, the watches are unregistered by `drop`.
        self.serve(requests).await;
    }

    async fn serve(&mut self, mut requests: Streaming<pb::WatchRequest>) {
        let mut progress = tokio::time::interval(self.context.limits.progress_interval);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (drain, stream) = (self.context.drain.clone(), self.stream.clone());
        let mut draining = pin!(drain.cancelled());
        let shared = self.context.shared.clone();
        let mut leaderless = pin!(leader_watch::lost(&shared, self.requires_leader));
        let mut asks = true;
        loop {
            tokio::select! {
                request = requests.message(), if asks => match request {
                    Ok(Some(request)) => {
                        shared.gauges.calls.asked(SERVICE, "Watch");
                        let notifies = self.to_notify > 0;
                        self.request(request).await;
                        // With the last one that was behind gone, nobody else would.
                        self.progress().await;
                        if !notifies {
                            progress.reset();
                        }
                    }
                    // It has asked for all that it wants, and goes on listening.
                    Ok(None) => asks = false,
                    Err(status) => {
                        // Whoever is still there is told.
                        let status = server::too_large(&status).unwrap_or(status);
                        return self.responses.send(Err(status)).await;
                    }
                },
                () = stream.marked() => {
                    self.read_marked().await;
                    self.progress().await;
                }
                () = ready(()), if !self.behind.is_empty() => {
                    self.catch_up().await;
                    self.progress().await;
                }
                _ = progress.tick(), if self.to_notify > 0 => {
                    self.notify_progress().await;
                }
                () = &mut draining => return self.responses.send(Err(Refusal::Stopped.into())).await,
                () = &mut leaderless => return self.responses.send(Err(Refusal::NoLeader.into())).await,
            }
        }
    }

    async fn request(&mut self, request: pb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(r)) => self.create(r).await,
            Some(RequestUnion::CancelRequest(r)) => self.cancel(r.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => {
                self.owed += 1;
            }
            None => {}
        }
    }

    async fn send(&self, response: pb::WatchResponse) {
        self.responses.send(Ok(response)).await;
    }

    fn response(&self, watch_id: i64, revision: i64) -> pb::WatchResponse {
        let header = Some(self.context.shared.header(revision));
        pb::WatchResponse { header, watch_id, ..Default::default() }
    }

    async fn create(&mut self, r: pb::WatchCreateRequest) {
        let filter = filter(&r);
        if filter.range.is_empty() {
            return self.refuse("mvcc: watcher range is empty").await;
        }
        if r.watch_id != 0 && self.is_taken(r.watch_id) {
            return self.refuse("mvcc: duplicate watch ID provided on the WatchStream").await;
        }
        if let Err(refusal) = self.permit(&filter.range).await {
            // As etcd's clients spell an error.
            let status = Status::from(refusal);
            return self.refuse(&format!("rpc error: code = {:?} desc = {}", status.code(), status.message())).await;
        }
        let id = if r.watch_id == 0 { self.free_id() } else { r.watch_id };
        // Registered before the revision is looked at: what happens in between marks the
        // watch, and reading begins at its place in any case.
        self.context.shared.hub.register(filter.range.clone(), &self.stream, id);
        let (revision, compacted, next, admitted) = {
            let kv = &self.context.shared.state.read().kv;
            let next = if r.start_revision == 0 { kv.revision() + 1 } else { r.start_revision };
            (kv.revision(), kv.compacted(), next, kv.history().admit(next))
        };
        let place = Place {
            filter,
            prev_kv: r.prev_kv,
            fragment: r.fragment,
            progress_notify: r.progress_notify,
            spoke: false,
            said: 0,
            next,
            compacted,
        };
        self.to_notify += usize::from(place.progress_notify);
        self.watches.insert(id, place);
        let created = pb::WatchResponse { created: true, ..self.response(id, revision) };
        self.send(created).await;
        if let Err(mvcc::Error::Compacted { compact_revision }) = admitted {
            return self.compacted(id, compact_revision).await;
        }
        if next <= revision {
            self.stream.mark(id, next);
        }
    }

    async fn permit(&self, keys: &KeyRange) -> Result<(), Refusal> {
        let asker = self.context.identify(&self.credentials).await?;
        Ok(self.context.shared.state.read().auth.guard(&asker).read(keys)?)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watches.contains_key(&id) || self.cancelled.contains(&id)
    }

    fn free_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    async fn refuse(&self, reason: &str) {
        let revision = self.context.shared.state.read().kv.revision();
        let refused = pb::WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.response(NO_WATCH, revision)
        };
        self.send(refused).await
    }

    fn forget(&mut self, id: i64) -> bool {
        let Some(place) = self.watches.remove(&id) else {
            return false;
        };
        self.to_notify -= usize::from(place.progress_notify);
        self.behind.remove(id);
        self.context.shared.hub.unregister(&place.filter.range, &self.stream, id);
        true
    }

    async fn cancel(&mut self, id: i64) {
        if !self.forget(id) && !self.cancelled.remove(&id) {
            return;
        }
        let revision = self.context.shared.state.read().kv.revision();
        self.send(pb::WatchResponse { canceled: true, ..self.response(id, revision) }).await
    }

    /// Says, as often as it was asked, that everything up to a revision was sent. The revision is one for which all
    /// marks have been set, and the marks are worked off before it is spoken. An event beyond it may have been read
    /// by then; it is about to be published, and who asked hears of no revision before it any more.
    async fn progress(&mut self) {
        while self.owed > 0 && self.behind.is_empty() {
            let revision = self.context.shared.hub.published();
            self.read_marked().await;
            if self.said > revision {
                tokio::task::yield_now().await;
            } else if self.behind.is_empty() {
                for _ in 0..std::mem::take(&mut self.owed) {
                    self.send(self.response(NO_WATCH, revision)).await;
                }
            }
        }
    }

    async fn notify_progress(&mut self) {
        let revision = self.context.shared.hub.published();
        self.read_marked().await;
        let mut quiet = Vec::new();
        for (id, place) in &mut self.watches {
            let spoke = std::mem::take(&mut place.spoke);
            if place.progress_notify && !spoke && place.said <= revision && !self.behind.contains(*id) {
                quiet.push(*id);
            }
        }
        for id in quiet {
            self.send(self.response(id, revision)).await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let hub = &self.context.shared.hub;
        for (id, place) in &self.watches {
            hub.unregister(&place.filter.range, &self.stream, *id);
        }
        hub.stream_closed();
    }
}

/// No key means from the first one on, as etcd has it.
fn filter(r: &pb::WatchCreateRequest) -> Filter {
    let key = if r.key.is_empty() { bytes::Bytes::from_static(&[0]) } else { r.key.clone() };
    // Copies: a slice of the request would keep the connection's buffer alive.
    let own = |bytes: &bytes::Bytes| bytes::Bytes::copy_from_slice(bytes);
    Filter {
        range: KeyRange::from_wire(own(&key), own(&r.range_end)),
        no_put: r.filters().any(|f| f == FilterType::Noput),
        no_delete: r.filters().any(|f| f == FilterType::Nodelete),
    }
}
