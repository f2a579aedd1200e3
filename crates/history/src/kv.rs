//! Keys, versions of keys, and changes: what clients write and are shown.

use std::fmt;

use bytes::Bytes;

/// One version of one key, as an answer shows it. A deletion is a version too: it has the key
/// and the revision that deleted it and is zero otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

impl KeyValue {
    pub fn tombstone(key: Bytes, mod_revision: i64) -> KeyValue {
        KeyValue { key, mod_revision, ..KeyValue::default() }
    }

    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Text(&self.key);
        if self.is_tombstone() {
            return write!(f, "{key} deleted @{}", self.mod_revision);
        }
        write!(f, "{key}={} @{}", Text(&self.value), self.mod_revision)?;
        write!(f, " (created @{}, version {}", self.create_revision, self.version)?;
        if self.lease != 0 {
            write!(f, ", lease {}", self.lease)?;
        }
        f.write_str(")")
    }
}

/// The keys that a request or a watch speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    One(Bytes),
    /// Every key that begins with this; the empty prefix is all keys.
    Prefix(Bytes),
}

impl Keys {
    pub fn all() -> Keys {
        Keys::Prefix(Bytes::new())
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Keys::One(only) => only == key,
            Keys::Prefix(prefix) => key.starts_with(prefix),
        }
    }

    pub(crate) fn start(&self) -> &Bytes {
        match self {
            Keys::One(key) | Keys::Prefix(key) => key,
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::One(key) => write!(f, "{}", Text(key)),
            Keys::Prefix(prefix) => write!(f, "{}*", Text(prefix)),
        }
    }
}

/// One change: the version that came, and the one it replaced if the key was there. In a
/// recorded watch `prev_kv` is what the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kv: KeyValue,
    pub prev_kv: Option<KeyValue>,
}

/// Bytes as words in a sentence; long ones are cut.
pub(crate) struct Text<'a>(pub &'a [u8]);

const MAX_SHOWN_BYTES: usize = 40;

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(MAX_SHOWN_BYTES)];
        write!(f, "{}", shown.escape_ascii())?;
        f.write_str(if shown.len() < self.0.len() { "..." } else { "" })
    }
}
