//! WATCH: the initial state when it is asked for, then events as they come. A watcher whose selector passes an event
//! gets the very bytes that every other watcher gets.

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use schema::Node;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Call;
use super::present::{self, Include};
use crate::cache::{Entry, Event, Selection, Start, WatchLost, Watcher, message_frame};
use crate::catalog::Kind;
use crate::http::accept::{Encoding, Shape};
use crate::http::query::Query;
use crate::http::reply::{BoxError, Reply};
use crate::http::request::Request;
use crate::object::{self, EventType};
use crate::state::Api;
use crate::wire;

const CONTENT_TYPE: &str = "application/json;stream=watch";
const CONTENT_TYPE_PLAIN: &str = "application/json";
const CONTENT_TYPE_PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Without timeoutSeconds a watch ends after a random time between this and its double.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What the query asks of a watch.
struct Options {
    start: Start,
    fresh: Fresh,
    bookmarks: bool,
    /// After the initial state comes a bookmark that says so.
    initial_end: bool,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fresh {
    Any,
    Latest,
    Reached(u64),
}

impl Options {
    fn parse(query: &Query) -> Result<Self, ApiError> {
        let version = query.filled("resourceVersion").unwrap_or_default();
        let invalid = || {
            ApiError::bad_request(format!(
                "Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
            ))
        };
        let revision: u64 = if version.is_empty() { 0 } else { version.parse().map_err(|_| invalid())? };
        let bookmarks = query.truthy("allowWatchBookmarks");
        let initial = query.get("sendInitialEvents").map(|_| query.truthy("sendInitialEvents"));
        check_initial(query, initial, bookmarks)?;
        let (start, fresh) = match (initial, version, revision) {
            (Some(true), "", _) => (Start::Now, Fresh::Latest),
            (Some(true), _, revision) => (Start::Now, Fresh::Reached(revision)),
            (Some(false), "" | "0", _) => (Start::After(u64::MAX), Fresh::Latest),
            (None, "", _) => (Start::Now, Fresh::Latest),
            (None, _, 0) => (Start::Now, Fresh::Any),
            (_, _, revision) => (Start::After(revision), Fresh::Any),
        };
        let seconds = query.integer("timeoutSeconds")?.filter(|s| *s > 0);
        let timeout = seconds
            .and_then(|s| u64::try_from(s).ok())
            .map_or_else(|| MIN_TIMEOUT + MIN_TIMEOUT.mul_f64(rand::random::<f64>()), Duration::from_secs);
        Ok(Self { start, fresh, bookmarks, initial_end: initial == Some(true), timeout })
    }
}

fn check_initial(query: &Query, initial: Option<bool>, bookmarks: bool) -> Result<(), ApiError> {
    let refuse =
        |why: &str| Err(ApiError::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {why}")));
    let matching = query.filled("resourceVersionMatch");
    match (initial, matching) {
        (None, Some(_)) => refuse(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), None) => refuse(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (Some(_), Some(other)) if other != "NotOlderThan" => {
            refuse(&format!("resourceVersionMatch: Unsupported value: {other:?}: supported values: \"NotOlderThan\""))
        }
        (Some(true), _) if !bookmarks => {
            refuse("sendInitialEvents: Forbidden: sendInitialEvents requires setting allowWatchBookmarks to true")
        }
        _ => Ok(()),
    }
}

pub async fn watch(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let options = Options::parse(&request.query)?;
    let mut selection = Selection::parse(&kind.row, &request.info.namespace, &request.query)?;
    // A watch of one object, by its own path.
    if request.query.filled("fieldSelector").is_none() && !request.info.name.is_empty() {
        selection = selection.named(&request.info.name);
    }
    let cache = api.cache(kind).ok_or_else(ApiError::no_such_path)?;
    match options.fresh {
        Fresh::Any => {}
        Fresh::Latest => drop(api.caches.fresh().await?),
        Fresh::Reached(revision) => api.caches.wait_for(revision).await?,
    }
    let start = match options.start {
        Start::After(u64::MAX) => Start::After(api.caches.revision()),
        start => start,
    };
    let encoder = Encoder::new(kind, request)?;
    let content_type = encoder.content_type();
    match Watcher::open(cache, start, &selection) {
        Ok((watcher, initial, revision)) => {
            let revision = revision.max(api.caches.revision());
            let session = Session::new(api, watcher, selection, encoder, &options, initial, revision);
            Ok(Reply::stream(content_type, session.stream()))
        }
        Err(lost) => {
            let frame = encoder.lost(&lost);
            Ok(Reply::stream(content_type, futures::stream::once(async move { Ok(frame) })))
        }
    }
}

/// One watch in progress.
struct Session {
    api: Arc<Api>,
    watcher: Watcher,
    selection: Selection,
    encoder: Encoder,
    bookmarks: bool,
    deadline: Instant,
    next_bookmark: Instant,
    /// Frames ready to be sent.
    ready: std::collections::VecDeque<Bytes>,
    initial: std::vec::IntoIter<Arc<Entry>>,
    initial_end: Option<u64>,
    done: bool,
    _count: crate::metrics::WatcherCount,
}

impl Session {
    fn new(
        api: &Arc<Api>,
        watcher: Watcher,
        selection: Selection,
        encoder: Encoder,
        options: &Options,
        initial: Vec<Arc<Entry>>,
        revision: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            api: api.clone(),
            watcher,
            selection,
            bookmarks: options.bookmarks,
            deadline: now + options.timeout,
            next_bookmark: now + BOOKMARK_INTERVAL,
            ready: std::collections::VecDeque::new(),
            initial: initial.into_iter(),
            initial_end: options.initial_end.then_some(revision),
            done: false,
            _count: api.metrics.watcher(&encoder.kind.row),
            encoder,
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
        futures::stream::unfold(self, |mut session| async move {
            let frame = session.frame().await?;
            Some((Ok(frame), session))
        })
    }

    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if let Some(entry) = self.initial.next() {
                return Some(self.encoder.entry(EventType::Added, &entry));
            }
            if let Some(revision) = self.initial_end.take() {
                return Some(self.encoder.bookmark(revision, true));
            }
            if self.done {
                return None;
            }
            self.wait().await;
        }
    }

    /// Waits for something to send, or for the end.
    async fn wait(&mut self) {
        tokio::select! {
            biased;
            () = self.api.stop.cancelled() => self.done = true,
            batch = self.watcher.next() => match batch {
                Ok(batch) => {
                    let frames = batch.iter().filter_map(|event| self.encoder.event(event, &self.selection));
                    self.ready.extend(frames);
                }
                Err(lost) => {
                    self.ready.push_back(self.encoder.lost(&lost));
                    self.done = true;
                }
            },
            () = tokio::time::sleep_until(self.next_bookmark.min(self.deadline)) => self.tick(),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.done = now >= self.deadline;
        if self.bookmarks {
            // The revision is read first: a cursor that is at the end after that has seen everything up to it.
            let revision = self.api.caches.revision();
            if self.watcher.is_drained() {
                self.ready.push_back(self.encoder.bookmark(revision, false));
            }
        }
        self.next_bookmark = now + BOOKMARK_INTERVAL;
    }
}

/// Objects in the shape and the encoding that one watcher asked for.
struct Encoder {
    kind: Arc<Kind>,
    shape: Shape,
    /// The client reads protobuf, and the kind has a message.
    protobuf: bool,
    include: Include,
    first: bool,
}

impl Encoder {
    fn new(kind: &Arc<Kind>, request: &Request) -> Result<Self, ApiError> {
        let shape = request.accept.shape;
        let protobuf =
            request.accept.encoding == Encoding::Protobuf && (kind.message.is_some() || shape == Shape::Metadata);
        Ok(Self { kind: kind.clone(), shape, protobuf, include: Include::parse(request)?, first: true })
    }

    fn content_type(&self) -> &'static str {
        match self.shape {
            _ if self.protobuf => CONTENT_TYPE_PROTOBUF,
            Shape::Object => CONTENT_TYPE_PLAIN,
            _ => CONTENT_TYPE,
        }
    }

    /// The model of the message, for whole objects as protobuf.
    fn node(&self) -> Option<&Node> {
        let whole = self.protobuf && self.shape == Shape::Object && self.kind.kept.is_none();
        self.kind.message.as_ref().filter(|_| whole)
    }

    /// What an event is to this watcher; nothing when its selector sees the object neither before nor after.
    fn event(&mut self, event: &Event, selection: &Selection) -> Option<Bytes> {
        let now = selection.matches(&event.entry);
        let before = event.previous.as_ref().is_some_and(|p| selection.matches(p));
        let kind = match (event.event_type, before, now) {
            (EventType::Deleted, true, _) => EventType::Deleted,
            (EventType::Deleted, false, _) | (_, false, false) => return None,
            (_, false, true) => EventType::Added,
            (_, true, true) => EventType::Modified,
            (_, true, false) => {
                let previous = event.previous.as_ref()?;
                let body = object::at_revision(&previous.body, event.revision);
                return Some(self.body(EventType::Deleted, &body));
            }
        };
        if kind != event.event_type {
            return Some(self.entry(kind, &event.entry));
        }
        match self.node() {
            Some(node) => Some(event.message_frame(&self.kind, node).clone()),
            None if self.is_plain() => Some(event.frame.clone()),
            None => Some(self.body(kind, &event.entry.body)),
        }
    }

    fn entry(&mut self, kind: EventType, entry: &Entry) -> Bytes {
        match self.node() {
            Some(node) => message_frame(kind, entry, &self.kind, node),
            None => self.body(kind, &entry.body),
        }
    }

    fn body(&mut self, kind: EventType, body: &Bytes) -> Bytes {
        if self.is_plain() {
            return object::reframe(kind, body);
        }
        let value = self.kind.served(serde_json::from_slice(body).unwrap_or_default());
        let shaped = match self.shape {
            Shape::Object => value,
            Shape::Metadata => present::partial(&value),
            Shape::Table => self.table(&value),
        };
        self.frame(kind.name(), &shaped)
    }

    /// Whether objects are sent as they are kept.
    fn is_plain(&self) -> bool {
        self.shape == Shape::Object && !self.protobuf && self.kind.kept.is_none()
    }

    fn frame(&self, event_type: &str, object: &Value) -> Bytes {
        match self.protobuf.then(|| wire::object(object)).flatten() {
            Some(object) => protobuf::watch_frame(event_type, &object).into(),
            None => Bytes::from(format!("{}\n", json!({"type": event_type, "object": object}))),
        }
    }

    /// Column definitions come once; later tables go without.
    fn table(&mut self, value: &Value) -> Value {
        let version = value["metadata"]["resourceVersion"].clone();
        let rows = vec![present::row(&self.kind.row, value, Timestamp::now(), self.include)];
        let mut table = present::table(&self.kind.row, json!({"resourceVersion": version}), rows);
        if !std::mem::take(&mut self.first) {
            table["columnDefinitions"] = json!([]);
        }
        table
    }

    fn lost(&self, lost: &WatchLost) -> Bytes {
        let error = ApiError::expired(lost.to_string());
        let mut status = serde_json::to_value(error.status()).expect("a Status always encodes");
        status["metadata"] = json!({});
        self.frame("ERROR", &status)
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let row = &self.kind.row;
        let partial =
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata.clone()});
        let object = match self.shape {
            Shape::Object => json!({"kind": row.kind, "apiVersion": row.api_version(), "metadata": metadata}),
            Shape::Metadata => partial,
            Shape::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision.to_string()},
                "columnDefinitions": [], "rows": [{"cells": [], "object": partial}],
            }),
        };
        self.frame("BOOKMARK", &object)
    }
}
