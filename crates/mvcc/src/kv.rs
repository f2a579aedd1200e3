//! The values everything else is made of: revisions, key-values, events, key ranges.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

/// A point in the store's history: the transaction (`main`) and the change within it (`sub`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

/// One version of one key. A deletion is a version too: its `version` is 0 and it carries no
/// value, only the key and the revision that deleted it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

impl KeyValue {
    /// Of its key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }

    pub fn tombstone(key: Bytes, mod_revision: i64) -> KeyValue {
        KeyValue { key, mod_revision, ..KeyValue::default() }
    }

    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// One change as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kv: Arc<KeyValue>,
    /// The version that lived before the change's transaction, if the key was there.
    pub prev: Option<Arc<KeyValue>>,
}

impl Event {
    pub fn is_delete(&self) -> bool {
        self.kv.is_tombstone()
    }

    /// Of the keys and values of both versions.
    pub fn bytes(&self) -> usize {
        let prev = self.prev.as_ref().map_or(0, |prev| prev.bytes());
        self.kv.bytes() + prev
    }
}

/// The keys a request speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyRange {
    Single(Bytes),
    /// From the first key up to, not including, the second.
    Between(Bytes, Bytes),
    /// The key and all that follow it.
    From(Bytes),
}

impl KeyRange {
    /// As etcd writes ranges: no `range_end` is one key, a zero byte means "to the end".
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        match &range_end[..] {
            [] => KeyRange::Single(key),
            [0] => KeyRange::From(key),
            _ => KeyRange::Between(key, range_end),
        }
    }

    pub fn all() -> KeyRange {
        KeyRange::From(Bytes::new())
    }

    pub fn start(&self) -> &Bytes {
        match self {
            KeyRange::Single(key) | KeyRange::Between(key, _) | KeyRange::From(key) => key,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Between(start, end) if start >= end)
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Single(only) => only == key,
            KeyRange::Between(start, end) => &start[..] <= key && key < &end[..],
            KeyRange::From(start) => &start[..] <= key,
        }
    }

    /// The bounds for an ordered map. An inverted range, which a map would panic on, is
    /// turned into an empty one.
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            KeyRange::Single(key) => (Bound::Included(key), Bound::Included(key)),
            KeyRange::Between(start, end) if start < end => (Bound::Included(start), Bound::Excluded(end)),
            KeyRange::Between(start, _) => (Bound::Included(start), Bound::Excluded(start)),
            KeyRange::From(start) => (Bound::Included(start), Bound::Unbounded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &'static str, end: &'static [u8], inside: &[&str], outside: &[&str]) {
        let range = KeyRange::from_wire(Bytes::from(key), Bytes::from_static(end));
        for k in inside {
            assert!(range.contains(k.as_bytes()), "{range:?} should hold {k}");
        }
        for k in outside {
            assert!(!range.contains(k.as_bytes()), "{range:?} should not hold {k}");
        }
    }

    #[test]
    fn wire_ranges() {
        check("b", b"", &["b"], &["a", "ba", "c"]);
        check("b", b"c", &["b", "ba", "bzz"], &["a", "c"]);
        check("b", b"\0", &["b", "c", "zz"], &["a"]);
        check("b", b"a", &[], &["a", "b", "ab"]);
    }
}
