//! Ranges of keys, and which of them a key is in: a tree in the order of the ranges, each node of which knows where the
//! furthest of the ranges below it ends.
//!
//! # Worked example
//!
//! ```text
//!               [c, d)                 furthest end below: h
//!              /      \
//!        [a, h)        [e, f)
//! ```
//!
//! For the key `g` all of the tree is looked at until a node says otherwise: `[a, h)` has it; `[c, d)` begins before `g`, so
//! ranges to its right might have it, but the furthest of them ends at `f`, and they are passed over.
//!
//! The tree is a treap: what keeps it flat is a number for each node, drawn by lot, and no number lies above a smaller one.
//! The lot is a sequence that is the same in every process.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use crate::kv::KeyRange;

/// Watchers by the ranges that they watch, each range once.
#[derive(Debug)]
pub struct Intervals<Id> {
    root: Link<Id>,
    lot: u64,
}

type Link<Id> = Option<Box<Node<Id>>>;

#[derive(Debug)]
struct Node<Id> {
    span: Span,
    ids: BTreeSet<Id>,
    priority: u64,
    /// Of this span and all below.
    furthest: End,
    left: Link<Id>,
    right: Link<Id>,
}

/// In the order of the tree: by where they begin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: Bytes,
    end: End,
}

/// The first key behind a span.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    At(Bytes),
    Never,
}

impl End {
    fn is_past(&self, key: &[u8]) -> bool {
        match self {
            End::At(end) => key < &end[..],
            End::Never => true,
        }
    }
}

impl From<KeyRange> for Span {
    fn from(range: KeyRange) -> Span {
        match range {
            KeyRange::Between(start, end) => Span { start, end: End::At(end) },
            KeyRange::From(start) => Span { start, end: End::Never },
            KeyRange::Single(key) => Span { end: End::At([&key, &[0][..]].concat().into()), start: key },
        }
    }
}

impl<Id> Default for Intervals<Id> {
    fn default() -> Self {
        Intervals { root: None, lot: 0 }
    }
}

impl<Id: Ord> Intervals<Id> {
    pub fn insert(&mut self, range: KeyRange, id: Id) {
        let span = Span::from(range);
        if let Some(node) = find(&mut self.root, &span) {
            node.ids.insert(id);
            return;
        }
        let (furthest, priority, ids) = (span.end.clone(), self.draw(), BTreeSet::from([id]));
        let (left, right) = split(self.root.take(), &span);
        let node = Node { span, ids, priority, furthest, left: None, right: None };
        self.root = merge(merge(left, Some(Box::new(node))), right);
    }

    pub fn remove(&mut self, range: &KeyRange, id: &Id) {
        let span = Span::from(range.clone());
        let Some(node) = find(&mut self.root, &span) else { return };
        node.ids.remove(id);
        if node.ids.is_empty() {
            cut(&mut self.root, &span);
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Id> {
        Walk { waiting: self.root.as_deref().into_iter().collect(), key: None }.flatten()
    }

    /// Those whose ranges have the key, in no order that means anything.
    pub fn watching<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Id> {
        Walk { waiting: self.root.as_deref().into_iter().collect(), key: Some(key) }.flatten()
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.lot = self.lot.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.lot ^ self.lot >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

impl<Id> Node<Id> {
    fn look_below(&mut self) {
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.furthest);
        self.furthest = below.chain([&self.span.end]).max().expect("one at least").clone();
    }
}

fn find<'a, Id>(mut link: &'a mut Link<Id>, span: &Span) -> Option<&'a mut Node<Id>> {
    while let Some(node) = link {
        match span.cmp(&node.span) {
            Ordering::Less => link = &mut node.left,
            Ordering::Greater => link = &mut node.right,
            Ordering::Equal => return Some(node),
        }
    }
    None
}

/// What comes before a span that is not there, and what comes after it.
fn split<Id>(link: Link<Id>, span: &Span) -> (Link<Id>, Link<Id>) {
    let Some(mut node) = link else { return (None, None) };
    if node.span < *span {
        let (left, right) = split(node.right.take(), span);
        node.right = left;
        node.look_below();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), span);
        node.left = right;
        node.look_below();
        (left, Some(node))
    }
}

/// All of the first comes before all of the second.
fn merge<Id>(left: Link<Id>, right: Link<Id>) -> Link<Id> {
    match (left, right) {
        (None, one) | (one, None) => one,
        (Some(mut left), Some(right)) if left.priority < right.priority => {
            left.right = merge(left.right.take(), Some(right));
            left.look_below();
            Some(left)
        }
        (left, Some(mut right)) => {
            right.left = merge(left, right.left.take());
            right.look_below();
            Some(right)
        }
    }
}

fn cut<Id>(link: &mut Link<Id>, span: &Span) {
    let Some(node) = link else { return };
    match span.cmp(&node.span) {
        Ordering::Less => cut(&mut node.left, span),
        Ordering::Greater => cut(&mut node.right, span),
        Ordering::Equal => {
            *link = merge(node.left.take(), node.right.take());
            return;
        }
    }
    node.look_below();
}

/// The nodes that have a key, or all.
struct Walk<'a, Id> {
    waiting: Vec<&'a Node<Id>>,
    key: Option<&'a [u8]>,
}

impl<'a, Id> Iterator for Walk<'a, Id> {
    type Item = &'a BTreeSet<Id>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(node) = self.waiting.pop() {
            let Some(key) = self.key else {
                self.waiting.extend([&node.left, &node.right].into_iter().flatten().map(|node| &**node));
                return Some(&node.ids);
            };
            if !node.furthest.is_past(key) {
                continue;
            }
            self.waiting.extend(node.left.as_deref());
            if node.span.start[..] > *key {
                continue;
            }
            self.waiting.extend(node.right.as_deref());
            if node.span.end.is_past(key) {
                return Some(&node.ids);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0..4_u8, 0..4).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        prop_oneof![
            key().prop_map(KeyRange::Single),
            key().prop_map(KeyRange::From),
            (key(), key()).prop_map(|(a, b)| KeyRange::Between(a, b)),
        ]
    }

    /// How deep it goes; no number above a smaller one, and every furthest end right.
    fn depth(link: &Link<u8>) -> usize {
        let Some(node) = link else { return 0 };
        let mut ends = vec![&node.span.end];
        for below in [&node.left, &node.right].into_iter().flatten() {
            assert!(node.priority <= below.priority);
            ends.push(&below.furthest);
        }
        assert_eq!(Some(&&node.furthest), ends.iter().max());
        1 + depth(&node.left).max(depth(&node.right))
    }

    proptest! {
        /// Against a list.
        #[test]
        fn every_range_is_found_that_has_a_key(
            steps in proptest::collection::vec((any::<bool>(), range(), 0..3_u8), 0..200),
            keys in proptest::collection::vec(key(), 1..20),
        ) {
            let mut intervals = Intervals::default();
            // A range can be written in more than one way.
            let mut list: BTreeMap<(Span, u8), KeyRange> = BTreeMap::new();
            for (comes, range, id) in steps {
                if comes {
                    intervals.insert(range.clone(), id);
                    list.insert((Span::from(range.clone()), id), range);
                } else {
                    // One of those that are there, if there is one.
                    let nth = usize::from(id) * list.len() / 3;
                    let Some((key, range)) = list.iter().nth(nth).map(|(k, r)| (k.clone(), r.clone())) else { continue };
                    intervals.remove(&range, &key.1);
                    list.remove(&key);
                }
                depth(&intervals.root);
            }
            let sorted = |mut ids: Vec<u8>| { ids.sort_unstable(); ids };
            for key in keys {
                let found = sorted(intervals.watching(&key).copied().collect());
                let expected = list.iter().filter(|(_, range)| range.contains(&key)).map(|((_, id), _)| *id);
                prop_assert_eq!(found, sorted(expected.collect()));
            }
            let all = sorted(intervals.all().copied().collect());
            prop_assert_eq!(all, sorted(list.keys().map(|(_, id)| *id).collect()));
        }
    }

    #[test]
    fn ranges_in_order_make_a_flat_tree() {
        let mut intervals = Intervals::default();
        for n in 0..100_000_u32 {
            let key = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
            intervals.insert(KeyRange::Between(key(n), key(n + 1)), 0);
        }
        let depth = depth(&intervals.root);
        assert!((17..60).contains(&depth), "{depth} deep");
    }
}
