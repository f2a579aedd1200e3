//! What a controller wrote and its caches have not shown yet.
//!
//! A key is not planned again before every write of its last plan is visible: planning from a cache that lags behind
//! one's own writes would create the same pods twice. Visible means: the cache holds that version or a later one, or
//! has moved past it without the object. This needs no counting, so a write whose answer was lost cannot leave a
//! count behind; what never shows up is given up after a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use client::Key;
use controllers::Kind;
use parking_lot::Mutex;

/// As upstream's expectations.
pub const GIVE_UP: Duration = Duration::from_secs(5 * 60);

/// An object as a cache shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub uid: String,
    pub version: u64,
    pub deleting: bool,
}

/// One write the API server has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub kind: Kind,
    pub key: Key,
    pub uid: String,
    pub version: u64,
    pub deleted: bool,
}

impl Written {
    /// `found` is the object under the same key; `newest` the latest version the cache has heard of.
    pub fn is_visible(&self, found: Option<&Seen>, newest: u64) -> bool {
        match found {
            Some(seen) if seen.uid != self.uid => true,
            Some(seen) if self.deleted => seen.deleting,
            Some(seen) => seen.version >= self.version,
            None => self.deleted || newest >= self.version,
        }
    }
}

#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<Key, (Instant, Vec<Written>)>>,
}

impl Expectations {
    pub fn expect(&self, key: &Key, written: Vec<Written>) {
        if !written.is_empty() {
            self.pending.lock().insert(key.clone(), (Instant::now(), written));
        }
    }

    /// Whether everything written for `key` is visible; forgets what is.
    pub fn satisfied(&self, key: &Key, visible: impl Fn(&Written) -> bool) -> bool {
        let mut pending = self.pending.lock();
        let Some((since, writes)) = pending.get_mut(key) else { return true };
        writes.retain(|write| !visible(write));
        let done = writes.is_empty() || since.elapsed() > GIVE_UP;
        if done {
            pending.remove(key);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deleted: bool, found: Option<(&str, u64, bool)>, newest: u64, expected: bool) {
        let kind = Kind::of::<k8s_openapi::api::core::v1::Pod>();
        let written = Written { kind, key: Key::new("ns", "p"), uid: "u".into(), version: 10, deleted };
        let seen = found.map(|(uid, version, deleting)| Seen { uid: uid.into(), version, deleting });
        assert_eq!(written.is_visible(seen.as_ref(), newest), expected, "{found:?} at {newest}");
    }

    #[test]
    fn a_write_is_visible_once_the_cache_reached_it() {
        check(false, None, 9, false);
        check(false, None, 10, true);
        check(false, Some(("u", 9, false)), 20, false);
        check(false, Some(("u", 10, false)), 10, true);
        check(false, Some(("other", 3, false)), 3, true);
    }

    #[test]
    fn a_deletion_is_visible_when_the_object_goes() {
        check(true, Some(("u", 9, false)), 20, false);
        check(true, Some(("u", 11, true)), 11, true);
        check(true, Some(("other", 12, false)), 12, true);
        check(true, None, 0, true);
    }

    #[test]
    fn a_key_waits_for_all_its_writes() {
        let kind = Kind::of::<k8s_openapi::api::core::v1::Pod>();
        let write = |name: &str| Written {
            kind: kind.clone(),
            key: Key::new("ns", name),
            uid: name.into(),
            version: 1,
            deleted: false,
        };
        let expectations = Expectations::default();
        let key = Key::new("ns", "set");
        assert!(expectations.satisfied(&key, |_| false));
        expectations.expect(&key, vec![write("a"), write("b")]);
        assert!(!expectations.satisfied(&key, |write| write.uid == "a"));
        assert!(expectations.satisfied(&key, |write| write.uid == "b"));
        assert!(expectations.satisfied(&key, |_| false));
    }
}
