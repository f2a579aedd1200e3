//! A set of paths, kept as a tree: each step may be in the set itself, and lead on.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use super::path::Element;

/// No branch of it is without meaning: each is a member or has members below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(pub(super) BTreeMap<Element, Branch>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Branch {
    /// The path that ends here is a member.
    pub member: bool,
    pub below: FieldSet,
}

impl Branch {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let branch = match self.0.get_mut(first) {
            Some(branch) => branch,
            None => self.0.entry(first.clone()).or_default(),
        };
        if rest.is_empty() {
            branch.member = true;
        } else {
            branch.below.insert(rest);
        }
    }

    pub fn has(&self, path: &[Element]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Some(branch) = self.0.get(first) else { return false };
        if rest.is_empty() { branch.member } else { branch.below.has(rest) }
    }

    pub(super) fn branch(&self, step: &Element) -> Option<&Branch> {
        self.0.get(step)
    }

    pub fn add(&mut self, other: &Self) {
        for (step, theirs) in &other.0 {
            match self.0.entry(step.clone()) {
                Slot::Vacant(slot) => {
                    slot.insert(theirs.clone());
                }
                Slot::Occupied(mut slot) => {
                    let ours = slot.get_mut();
                    ours.member |= theirs.member;
                    ours.below.add(&theirs.below);
                }
            }
        }
    }

    pub fn union(mut self, other: &Self) -> Self {
        self.add(other);
        self
    }

    /// Takes the members of `other` away, but not what lies below them.
    pub fn remove(&mut self, other: &Self) {
        self.without(other, false);
    }

    /// Takes the members of `other` away and all that lies below them.
    pub fn remove_below(&mut self, other: &Self) {
        self.without(other, true);
    }

    fn without(&mut self, other: &Self, below: bool) {
        for (step, theirs) in &other.0 {
            let Some(ours) = self.0.get_mut(step) else { continue };
            if theirs.member && below {
                *ours = Branch::default();
            } else {
                ours.member &= !theirs.member;
                ours.below.without(&theirs.below, below);
            }
            if ours.is_empty() {
                self.0.remove(step);
            }
        }
    }

    pub fn difference(mut self, other: &Self) -> Self {
        self.remove(other);
        self
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let common = self.0.iter().filter_map(|(step, ours)| {
            let theirs = other.0.get(step)?;
            let both = Branch { member: ours.member && theirs.member, below: ours.below.intersection(&theirs.below) };
            (!both.is_empty()).then(|| (step.clone(), both))
        });
        Self(common.collect())
    }

    /// Every member, in order.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let (mut found, mut path) = (Vec::new(), Vec::new());
        self.collect(&mut path, &mut found);
        found
    }

    fn collect(&self, path: &mut Vec<Element>, found: &mut Vec<Vec<Element>>) {
        for (step, branch) in &self.0 {
            path.push(step.clone());
            if branch.member {
                found.push(path.clone());
            }
            branch.below.collect(path, found);
            path.pop();
        }
    }
}

/// From dotted paths of plain fields: `metadata.name`.
impl<'a> FromIterator<&'a str> for FieldSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(paths: I) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.split('.').map(Element::field).collect::<Vec<_>>());
        }
        set
    }
}
