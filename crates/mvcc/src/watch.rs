//! Who watches what: filters, and the registry that finds the watchers of a change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use bytes::Bytes;

use crate::history::Transaction;
use crate::intervals::Intervals;
use crate::kv::{Event, KeyRange};

/// Which events a watcher wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub range: KeyRange,
    pub no_put: bool,
    pub no_delete: bool,
}

impl Filter {
    pub fn matches(&self, event: &Event) -> bool {
        let unwanted = if event.is_delete() { self.no_delete } else { self.no_put };
        !unwanted && self.range.contains(&event.kv.key)
    }
}

/// Watchers by what they watch. Exact keys are found by hash.
#[derive(Debug)]
pub struct Registry<Id> {
    keys: HashMap<Bytes, BTreeSet<Id>>,
    ranges: Intervals<Id>,
}

impl<Id> Default for Registry<Id> {
    fn default() -> Self {
        Registry { keys: HashMap::new(), ranges: Intervals::default() }
    }
}

impl<Id: Ord> Registry<Id> {
    pub fn insert(&mut self, range: KeyRange, id: Id) {
        match range {
            KeyRange::Single(key) => drop(self.keys.entry(key).or_default().insert(id)),
            range => self.ranges.insert(range, id),
        }
    }

    pub fn remove(&mut self, range: &KeyRange, id: &Id) {
        let KeyRange::Single(key) = range else { return self.ranges.remove(range, id) };
        if let Some(ids) = self.keys.get_mut(key) {
            ids.remove(id);
            if ids.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// Every watcher, once per range that it watches.
    pub fn all(&self) -> impl Iterator<Item = &Id> {
        self.keys.values().flatten().chain(self.ranges.all())
    }

    /// The watchers of a key.
    pub fn watching<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Id> {
        self.keys.get(key).into_iter().flatten().chain(self.ranges.watching(key))
    }

    /// Whom these transactions concern, and between which of their revisions.
    pub fn concerned(&self, transactions: &[Transaction]) -> BTreeMap<Id, Range<i64>>
    where
        Id: Clone,
    {
        let mut concerned: BTreeMap<Id, Range<i64>> = BTreeMap::new();
        for transaction in transactions {
            let (first, end) = (transaction.revision(), transaction.revision() + 1);
            for id in transaction.events().iter().flat_map(|event| self.watching(&event.kv.key)) {
                match concerned.get_mut(id) {
                    Some(revisions) => revisions.end = end,
                    None => drop(concerned.insert(id.clone(), first..end)),
                }
            }
        }
        concerned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exact_and_ranged_watchers() {
        let range = |key: &'static str, end: &'static str| KeyRange::from_wire(Bytes::from(key), Bytes::from(end));
        let mut registry = Registry::default();
        registry.insert(range("a", ""), 1);
        registry.insert(range("a", "c"), 2);
        registry.insert(range("a", "c"), 3);
        registry.insert(range("b", "d"), 4);
        let check = |registry: &Registry<i32>, key: &str, expected: &[i32]| {
            let mut found: Vec<i32> = registry.watching(key.as_bytes()).copied().collect();
            found.sort_unstable();
            assert_eq!(found, expected, "watchers of {key}");
        };
        check(&registry, "a", &[1, 2, 3]);
        check(&registry, "b", &[2, 3, 4]);
        check(&registry, "d", &[]);
        registry.remove(&range("a", "c"), &2);
        registry.remove(&range("a", ""), &1);
        check(&registry, "a", &[3]);
        registry.remove(&range("a", "c"), &3);
        check(&registry, "b", &[4]);
    }
}
