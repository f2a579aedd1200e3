//! Who watches what: filters, and the registry that finds the watchers of a change.

use std::collections::HashMap;

use bytes::Bytes;

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

/// Watchers by what they watch. Exact keys are found by hash; ranges are few and shared by
/// many watchers, so each distinct one is tested once.
#[derive(Debug)]
pub struct Registry<Id> {
    keys: HashMap<Bytes, Vec<Id>>,
    ranges: Vec<(KeyRange, Vec<Id>)>,
}

impl<Id> Default for Registry<Id> {
    fn default() -> Self {
        Registry { keys: HashMap::new(), ranges: Vec::new() }
    }
}

impl<Id: PartialEq> Registry<Id> {
    pub fn insert(&mut self, range: KeyRange, id: Id) {
        match range {
            KeyRange::Single(key) => self.keys.entry(key).or_default().push(id),
            range => match self.ranges.iter_mut().find(|(known, _)| *known == range) {
                Some((_, ids)) => ids.push(id),
                None => self.ranges.push((range, vec![id])),
            },
        }
    }

    pub fn remove(&mut self, range: &KeyRange, id: &Id) {
        match range {
            KeyRange::Single(key) => {
                if let Some(ids) = self.keys.get_mut(key) {
                    ids.retain(|known| known != id);
                    if ids.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            range => {
                if let Some(at) = self.ranges.iter().position(|(known, _)| known == range) {
                    self.ranges[at].1.retain(|known| known != id);
                    if self.ranges[at].1.is_empty() {
                        self.ranges.swap_remove(at);
                    }
                }
            }
        }
    }

    /// Every watcher, once per range that it watches.
    pub fn all(&self) -> impl Iterator<Item = &Id> {
        self.keys.values().flatten().chain(self.ranges.iter().flat_map(|(_, ids)| ids))
    }

    /// The watchers of a key.
    pub fn watching(&self, key: &[u8]) -> impl Iterator<Item = &Id> {
        let exact = self.keys.get(key).into_iter().flatten();
        let ranged = self.ranges.iter().filter(move |(range, _)| range.contains(key)).flat_map(|(_, ids)| ids);
        exact.chain(ranged)
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
            let found: Vec<i32> = registry.watching(key.as_bytes()).copied().collect();
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
