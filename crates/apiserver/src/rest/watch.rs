//! WATCH: the initial state when it is asked for, then events as they come. A watcher whose selector passes an event
//! gets the very bytes that every other watcher gets.

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::table::Resource;
use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Call;
use super::present::{self, Include};
use crate::cache::{Entry, Event, Selection, Start, WatchLost, Watcher};
use crate::http::accept::Shape;
use crate::http::query::Query;
use crate::http::reply::{BoxError, Reply};
use crate::object::{self, EventType};
use crate::state::Api;

const CONTENT_TYPE: &str = "application/json;stream=watch";
const CONTENT_TYPE_PLAIN: &str = "application/json";
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
    let encoder =
        Encoder { row: kind.row.clone(), shape: request.accept.shape, include: Include::parse(request)?, first: true };
    let content_type = if request.accept.shape == Shape::Object { CONTENT_TYPE_PLAIN } else { CONTENT_TYPE };
    match Watcher::open(cache, start, &selection) {
        Ok((watcher, initial, revision)) => {
            let revision = revision.max(api.caches.revision());
            let session = Session::new(api, watcher, selection, encoder, &options, initial, revision);
            Ok(Reply::stream(content_type, session.stream()))
        }
        Err(lost) => {
            let frame = lost_frame(&lost);
            Ok(Reply::stream(content_type, futures::stream::once(async move { Ok(frame) })))
        }
    }
}

fn lost_frame(lost: &WatchLost) -> Bytes {
    let error = ApiError::expired(lost.to_string());
    let mut status = serde_json::to_value(error.status()).expect("a Status always encodes");
    status["metadata"] = json!({});
    Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": status})))
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
            _count: api.metrics.watcher(&encoder.row),
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
                    self.ready.push_back(lost_frame(&lost));
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

struct Encoder {
    row: Arc<Resource>,
    shape: Shape,
    include: Include,
    first: bool,
}

impl Encoder {
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
        if kind == event.event_type && self.shape == Shape::Object {
            return Some(event.frame.clone());
        }
        Some(self.body(kind, &event.entry.body))
    }

    fn entry(&mut self, kind: EventType, entry: &Entry) -> Bytes {
        self.body(kind, &entry.body)
    }

    fn body(&mut self, kind: EventType, body: &Bytes) -> Bytes {
        if self.shape == Shape::Object {
            return object::reframe(kind, body);
        }
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let shaped = match self.shape {
            Shape::Metadata => present::partial(&value),
            _ => self.table(&value),
        };
        Bytes::from(format!("{}\n", json!({"type": kind.name(), "object": shaped})))
    }

    /// Column definitions come once; later tables go without.
    fn table(&mut self, value: &Value) -> Value {
        let version = value["metadata"]["resourceVersion"].clone();
        let rows = vec![present::row(&self.row, value, Timestamp::now(), self.include)];
        let mut table = present::table(&self.row, json!({"resourceVersion": version}), rows);
        if !std::mem::take(&mut self.first) {
            table["columnDefinitions"] = json!([]);
        }
        table
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let (kind, version) = (self.row.kind.as_ref(), self.row.api_version());
        let object = match self.shape {
            Shape::Object => json!({"kind": kind, "apiVersion": version, "metadata": metadata}),
            Shape::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Shape::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision.to_string()},
                "columnDefinitions": [], "rows": [{"cells": [], "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                }}],
            }),
        };
        Bytes::from(format!("{}\n", json!({"type": "BOOKMARK", "object": object})))
    }
}
