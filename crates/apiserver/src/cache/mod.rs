//! The watch cache: every object of one resource as shared bytes beside a small parsed index, and the recent events.
//!
//! A LIST clones pointers under a read lock and streams the bytes afterwards; a WATCH is a cursor into the ring of
//! events, so a watcher holds no buffer of its own and one that falls behind the ring is ended.

pub mod caches;
mod entry;
mod feed;
mod ring;
pub mod selection;
mod watcher;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::watch;

pub use caches::Caches;
pub use entry::{Entry, Event, message_frame};
pub use selection::Selection;
pub use watcher::{Start, WatchLost, Watcher};

use crate::catalog::Kind;
use crate::object::EventType;
use entry::ByKey;
use ring::Ring;

/// The cache of one resource.
pub struct Cache {
    pub kind: Arc<Kind>,
    state: RwLock<State>,
    /// Counts applied batches; watchers sleep on it.
    changed: watch::Sender<u64>,
    /// The newest revision of this resource that this server itself has written.
    written: AtomicU64,
}

#[derive(Default)]
struct State {
    objects: BTreeSet<ByKey>,
    ring: Ring,
    /// The last change of this resource, or the revision at which it was read whole.
    revision: u64,
    /// Grows when the state is replaced as a whole; cursors of an older epoch are lost.
    epoch: u64,
}

/// One page of a list.
pub struct Listed {
    pub items: Vec<Arc<Entry>>,
    /// The last change of this resource that the items include.
    pub revision: u64,
    /// The key after which the next page begins.
    pub next_after: Option<String>,
    pub remaining: Option<u64>,
}

impl Cache {
    pub fn new(kind: Arc<Kind>) -> Self {
        Self { kind, state: RwLock::default(), changed: watch::Sender::new(0), written: AtomicU64::new(0) }
    }

    /// `key` is `namespace/name`, or the name alone.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key).map(|o| o.0.clone())
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The last change of this resource.
    pub fn revision(&self) -> u64 {
        self.state.read().revision
    }

    /// Wakes when something of this resource has changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.state.read().objects.iter().map(|o| o.0.clone()).collect()
    }

    /// Everything in a namespace (all namespaces when empty).
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Entry>> {
        self.list(&Selection::within(namespace), None, 0).items
    }

    /// What the selection takes, in key order after `after`, at most `limit` (0: all).
    pub fn list(&self, selection: &Selection, after: Option<&str>, limit: usize) -> Listed {
        let state = self.state.read();
        let prefix = selection.key_prefix();
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix.as_str()),
        };
        let mut range = state
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|o| o.0.key.starts_with(&prefix))
            .map(|o| &o.0);
        let mut items: Vec<Arc<Entry>> = Vec::new();
        for entry in range.by_ref().filter(|e| selection.matches(e)) {
            items.push(entry.clone());
            if limit > 0 && items.len() == limit {
                break;
            }
        }
        let full = limit > 0 && items.len() == limit;
        let rest = if full { range.filter(|e| selection.matches(e)).count() } else { 0 };
        let next_after = items.last().filter(|_| rest > 0).map(|e| e.key.to_string());
        let remaining = (rest > 0 && selection.is_plain()).then_some(rest as u64);
        Listed { items, revision: state.revision, next_after, remaining }
    }

    /// Replaces everything, as read from the store at `revision`.
    pub(crate) fn install(&self, entries: Vec<Arc<Entry>>, revision: u64) {
        let mut state = self.state.write();
        state.objects = entries.into_iter().map(ByKey).collect();
        state.ring = Ring::starting_at(revision);
        state.revision = revision;
        state.epoch += 1;
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Applies what the store told, in order; all of one revision become visible together.
    pub(crate) fn apply(&self, changes: Vec<RawChange>) {
        let mut state = self.state.write();
        for change in changes {
            if let Some(event) = state.apply(&self.kind, change) {
                state.revision = event.revision;
                state.ring.push(Arc::new(event));
            }
        }
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }
}

/// A change of one key, relative to the resource's prefix.
pub(crate) struct RawChange {
    pub key: String,
    pub revision: u64,
    /// `None`: deleted.
    pub value: Option<Vec<u8>>,
}

impl State {
    fn apply(&mut self, kind: &Kind, change: RawChange) -> Option<Event> {
        let previous = self.objects.get(change.key.as_str()).map(|o| o.0.clone());
        let Some(value) = change.value else {
            let previous = previous?;
            self.objects.remove(change.key.as_str());
            return Some(Event::deleted(previous, change.revision));
        };
        let event_type = if previous.is_some() { EventType::Modified } else { EventType::Added };
        let (entry, frame) = match Entry::decode(kind, event_type, &change.key, &value, change.revision) {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::error!(key = change.key, %error, "the store holds an object that does not decode");
                return None;
            }
        };
        let entry = Arc::new(entry);
        self.objects.replace(ByKey(entry.clone()));
        Some(Event::new(event_type, entry, previous, change.revision, frame))
    }
}
