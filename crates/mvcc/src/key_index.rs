//! The versions of one key, in generations.
//!
//! A generation is one life of the key: it begins with a put, grows with every further put
//! and ends with the tombstone of a deletion; the next put begins a new one. The tombstones
//! alone tell the generations apart, so all versions lie in one list; and as most keys have
//! exactly one version, that one needs no list at all.
//!
//! # Worked example
//!
//! `put k` at revision 2, `put k` at 4, `delete k` at 6, `put k` at 8, `delete k` at 10:
//!
//! ```text
//! generations:  { 2, 4, 6(t) }   { 8, 10(t) }
//! ```
//!
//! Reading at a revision takes the last version not newer than it, and finds nothing if that
//! is a tombstone: at 5 the version of revision 4, at 7 nothing, at 9 the version of 8.
//!
//! `compact(c)` lets go of everything that no read at or after `c` can reach: each version
//! that a newer one not newer than `c` hides, and a tombstone strictly older than `c`. A
//! tombstone *at* `c` stays, because a watcher may still resume from `c`.
//!
//! ```text
//! compact(3):  { 2, 4, 6(t) }   { 8, 10(t) }     2 is what a read at 3 finds
//! compact(4):  { 4, 6(t) }      { 8, 10(t) }
//! compact(6):  { 6(t) }         { 8, 10(t) }     nobody reads 6(t), but 6 is watchable
//! compact(7):                   { 8, 10(t) }
//! compact(10):                  { 10(t) }
//! compact(11): the index is empty and the key forgotten
//! ```

use std::sync::Arc;

use crate::kv::{KeyValue, Revision};

/// All versions of one key that are not compacted, oldest first; empty only before the first
/// version and after a compaction, and dropped then.
#[derive(Debug, Default)]
pub struct KeyIndex {
    versions: Versions,
}

#[derive(Debug)]
enum Versions {
    One(Version),
    Many(Vec<Version>),
}

/// The main revision is the one that the key-value tells.
#[derive(Debug)]
struct Version {
    sub: i64,
    kv: Arc<KeyValue>,
}

impl Version {
    fn main(&self) -> i64 {
        self.kv.mod_revision
    }

    fn revision(&self) -> Revision {
        Revision { main: self.main(), sub: self.sub }
    }
}

impl Default for Versions {
    fn default() -> Versions {
        Versions::Many(Vec::new())
    }
}

impl Versions {
    fn list(&self) -> &[Version] {
        match self {
            Versions::One(version) => std::slice::from_ref(version),
            Versions::Many(versions) => versions,
        }
    }

    /// Changes the versions as a list.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Version>)) {
        let mut list = match std::mem::take(self) {
            Versions::One(version) => vec![version],
            Versions::Many(versions) => versions,
        };
        change(&mut list);
        *self = match list.pop() {
            Some(only) if list.is_empty() => Versions::One(only),
            last => {
                list.extend(last);
                Versions::Many(list)
            }
        };
    }
}

impl KeyIndex {
    /// Appends a version: a put continues the open generation or begins one; a tombstone ends
    /// the open one.
    pub fn push(&mut self, revision: Revision, kv: Arc<KeyValue>) {
        assert!(
            self.last().is_none_or(|last| last.revision() < revision),
            "a version must be newer than all before it"
        );
        assert_eq!(revision.main, kv.mod_revision, "a version is written under its own revision");
        let version = Version { sub: revision.sub, kv };
        match self.versions.list() {
            // The first one: a list of one would be allocated only to be taken apart.
            [] => self.versions = Versions::One(version),
            _ => self.versions.change(|list| list.push(version)),
        }
    }

    fn last(&self) -> Option<&Version> {
        self.versions.list().last()
    }

    /// Whether the newest version is of a main revision.
    pub fn changed_at(&self, main: i64) -> bool {
        self.last().is_some_and(|last| last.main() == main)
    }

    /// The version that lives now.
    pub fn current(&self) -> Option<&Arc<KeyValue>> {
        self.last().map(|v| &v.kv).filter(|kv| !kv.is_tombstone())
    }

    /// The version that lived at main revision `at`.
    pub fn get(&self, at: i64) -> Option<&Arc<KeyValue>> {
        let versions = self.versions.list();
        let next = versions.partition_point(|v| v.main() <= at);
        let found = &versions[next.checked_sub(1)?];
        (!found.kv.is_tombstone()).then_some(&found.kv)
    }

    /// Forgets what no read or watch at or after `at` needs and hands it to `dropped`.
    pub fn compact(&mut self, at: i64, mut dropped: impl FnMut(Revision, Arc<KeyValue>)) {
        let versions = self.versions.list();
        let not_newer = versions.partition_point(|v| v.main() <= at);
        let Some(kept) = not_newer.checked_sub(1) else {
            return;
        };
        let watchable = |v: &Version| v.kv.is_tombstone() && v.main() == at;
        let goes = versions[kept].kv.is_tombstone() && !watchable(&versions[kept]);
        let passed = kept + usize::from(goes);
        if passed == 0 {
            return;
        }
        self.versions.change(|list| {
            for v in list.extract_if(..passed, |v| !watchable(v)) {
                dropped(v.revision(), v.kv);
            }
            list.shrink_to_fit();
        });
    }

    pub fn is_empty(&self) -> bool {
        self.versions.list().is_empty()
    }

    /// Every version, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = (Revision, &Arc<KeyValue>)> {
        self.versions.list().iter().map(|v| (v.revision(), &v.kv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// The worked example above.
    fn example() -> KeyIndex {
        let mut index = KeyIndex::default();
        for (main, version) in [(2, 1), (4, 2), (6, 0), (8, 1), (10, 0)] {
            let kv = KeyValue { key: Bytes::from_static(b"k"), mod_revision: main, version, ..KeyValue::default() };
            index.push(Revision { main, sub: 0 }, Arc::new(kv));
        }
        index
    }

    fn shape(index: &KeyIndex) -> Vec<Vec<i64>> {
        let generations = index.versions.list().split_inclusive(|v| v.kv.is_tombstone());
        generations.map(|g| g.iter().map(Version::main).collect()).collect()
    }

    #[test]
    fn reads_between_generations() {
        let index = example();
        let found = |at| index.get(at).map(|kv| kv.mod_revision);
        let expected = [None, Some(2), Some(2), Some(4), Some(4), None, None, Some(8)];
        for (at, expected) in (1..).zip(expected) {
            assert_eq!(found(at), expected, "at {at}");
        }
        assert_eq!(found(10), None);
    }

    #[test]
    fn compaction_of_the_worked_example() {
        let check = |at, expected: Vec<Vec<i64>>| {
            let mut index = example();
            index.compact(at, |_, _| {});
            assert_eq!(shape(&index), expected, "compact({at})");
        };
        check(3, vec![vec![2, 4, 6], vec![8, 10]]);
        check(4, vec![vec![4, 6], vec![8, 10]]);
        check(6, vec![vec![6], vec![8, 10]]);
        check(7, vec![vec![8, 10]]);
        check(10, vec![vec![10]]);
        check(11, vec![]);
    }
}
