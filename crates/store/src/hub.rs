//! Wakes watchers. A change marks the watches it concerns, per stream, with the revision it
//! happened at; the stream's task then reads the history from there.
//!
//! There is no queue of events: what is marked is bounded by the number of watches, a slow
//! stream delays nobody, and nothing can be dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use mvcc::{KeyRange, Registry, Transaction};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One watch stream's unread marks.
#[derive(Debug, Default)]
pub struct Stream {
    /// The first unread revision of each watch that has something to read.
    marked: Mutex<BTreeMap<i64, i64>>,
    notify: Notify,
}

impl Stream {
    pub fn mark(&self, watch: i64, revision: i64) {
        let mut marked = self.marked.lock();
        let first = marked.entry(watch).or_insert(revision);
        *first = revision.min(*first);
        drop(marked);
        self.notify.notify_one();
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

impl PartialEq for Watcher {
    fn eq(&self, other: &Self) -> bool {
        self.watch == other.watch && Arc::ptr_eq(&self.stream, &other.stream)
    }
}

#[derive(Debug, Default)]
pub struct Hub {
    registry: Mutex<Registry<Watcher>>,
    published: AtomicI64,
    watchers: AtomicUsize,
    streams: AtomicUsize,
}

impl Hub {
    pub fn new(revision: i64) -> Hub {
        Hub { published: AtomicI64::new(revision), ..Hub::default() }
    }

    pub fn register(&self, range: KeyRange, stream: &Arc<Stream>, watch: i64) {
        let stream = stream.clone();
        self.registry.lock().insert(range, Watcher { stream, watch });
        self.watchers.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unregister(&self, range: &KeyRange, stream: &Arc<Stream>, watch: i64) {
        let stream = stream.clone();
        self.registry.lock().remove(range, &Watcher { stream, watch });
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Called in the order of the log, after the state holds the changes.
    pub fn publish(&self, transactions: &[Arc<Transaction>], revision: i64) {
        let registry = self.registry.lock();
        for transaction in transactions {
            for event in &transaction.events {
                for watcher in registry.watching(&event.kv.key) {
                    watcher.stream.mark(watcher.watch, transaction.revision);
                }
            }
        }
        self.published.store(revision, Ordering::Release);
    }

    /// The state went on to this revision in one step, by a snapshot: every watch looks for itself what concerns it.
    pub fn jump(&self, revision: i64) {
        let registry = self.registry.lock();
        let from = self.published() + 1;
        for watcher in registry.all() {
            watcher.stream.mark(watcher.watch, from);
        }
        self.published.store(revision, Ordering::Release);
    }

    /// Every watch that something up to this revision concerns has been marked.
    pub fn published(&self) -> i64 {
        self.published.load(Ordering::Acquire)
    }

    pub fn stream_opened(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn stream_closed(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}
