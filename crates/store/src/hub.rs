//! Wakes watchers. A change marks the watches it concerns, per stream, with the revision it
//! happened at; the stream's task then reads the history from there.
//!
//! There is no queue of events: what is marked is bounded by the number of watches, a slow
//! stream delays nobody, and nothing can be dropped.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicI64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use mvcc::{KeyRange, Registry, Transaction};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::server::ConnectionId;

/// One watch stream's unread marks.
#[derive(Debug, Default)]
pub struct Stream {
    connection: ConnectionId,
    /// The first unread revision of each watch that has something to read.
    marked: Mutex<BTreeMap<i64, i64>>,
    notify: Notify,
}

impl Stream {
    pub fn new(connection: ConnectionId) -> Stream {
        Stream { connection, ..Stream::default() }
    }

    pub fn mark(&self, watch: i64, revision: i64) {
        if self.set_mark(watch, revision) {
            self.notify.notify_one();
        }
    }

    /// Whether nothing was marked: then the stream is to be woken.
    fn set_mark(&self, watch: i64, revision: i64) -> bool {
        let mut marked = self.marked.lock();
        let first = marked.is_empty();
        let mark = marked.entry(watch).or_insert(revision);
        *mark = revision.min(*mark);
        first
    }

    pub async fn marked(&self) {
        self.notify.notified().await;
    }

    pub fn take_marked(&self) -> BTreeMap<i64, i64> {
        std::mem::take(&mut *self.marked.lock())
    }
}

#[derive(Debug, Clone)]
struct Watcher {
    stream: Arc<Stream>,
    watch: i64,
}

/// By the stream that it is, not by what has been marked of it.
impl Ord for Watcher {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |watcher: &Watcher| (Arc::as_ptr(&watcher.stream), watcher.watch);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Watcher {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Watcher {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Watcher {}

#[derive(Debug)]
pub struct Hub {
    registry: Mutex<Registry<Watcher>>,
    published: AtomicI64,
    watchers: AtomicUsize,
    streams: AtomicUsize,
    /// However many streams look through the history, half the processors are left to others.
    turns: Semaphore,
}

impl Hub {
    pub fn new(revision: i64) -> Hub {
        let turns = std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2));
        Hub {
            registry: Mutex::default(),
            published: AtomicI64::new(revision),
            watchers: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            turns: Semaphore::new(turns),
        }
    }

    pub fn register(&self, range: KeyRange, stream: &Arc<Stream>, watch: i64) {
        let stream = stream.clone();
        self.registry.lock().insert(range, Watcher { stream, watch });
        self.watchers.fetch_add(1, Relaxed);
    }

    pub fn unregister(&self, range: &KeyRange, stream: &Arc<Stream>, watch: i64) {
        let stream = stream.clone();
        self.registry.lock().remove(range, &Watcher { stream, watch });
        self.watchers.fetch_sub(1, Relaxed);
    }

    /// Called in the order of the log, after the state holds the changes. Whose watches are marked now is to be woken.
    pub fn publish(&self, transactions: &[Transaction], revision: i64) -> Unaware {
        let registry = self.registry.lock();
        let events = transactions.iter().flat_map(|t| t.events().iter().map(|event| (&event.kv.key, t.revision())));
        let unaware = mark(events.flat_map(|(key, at)| registry.watching(key).map(move |watcher| (watcher, at))));
        self.published.store(revision, Release);
        Unaware(unaware)
    }

    /// The state went on to this revision in one step, by a snapshot: every watch looks for itself what concerns it.
    pub fn jump(&self, revision: i64) {
        let registry = self.registry.lock();
        let from = self.published() + 1;
        let unaware = mark(registry.all().map(|watcher| (watcher, from)));
        self.published.store(revision, Release);
        drop(registry);
        Unaware(unaware).wake();
    }

    /// Every watch that something up to this revision concerns has been marked.
    pub fn published(&self) -> i64 {
        self.published.load(Acquire)
    }

    /// To look through a part of the history.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("it is never closed")
    }

    pub fn stream_opened(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    pub fn stream_closed(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    pub fn watchers(&self) -> usize {
        self.watchers.load(Relaxed)
    }

    pub fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }
}

/// The streams that are to be woken.
fn mark<'a>(watchers: impl Iterator<Item = (&'a Watcher, i64)>) -> Vec<Arc<Stream>> {
    let unaware = watchers.filter(|(watcher, revision)| watcher.stream.set_mark(watcher.watch, *revision));
    unaware.map(|(watcher, _)| watcher.stream.clone()).collect()
}

/// Streams that do not know yet that something of theirs is marked.
#[must_use = "nobody else wakes them"]
pub struct Unaware(Vec<Arc<Stream>>);

impl Unaware {
    /// Those of a connection one after the other, so that what they write leaves together.
    pub fn wake(mut self) {
        self.0.sort_by_key(|stream| stream.connection);
        for stream in self.0 {
            stream.notify.notify_one();
        }
    }
}
