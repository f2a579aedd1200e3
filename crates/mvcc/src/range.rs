//! Reading a range of keys at one revision.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::kv::{KeyRange, KeyValue};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    None,
    Ascend,
    Descend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// Limits on a revision; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    pub min_mod: i64,
    pub max_mod: i64,
    pub min_create: i64,
    pub max_create: i64,
}

impl Bounds {
    fn any(&self) -> bool {
        *self != Bounds::default()
    }

    fn admit(&self, kv: &KeyValue) -> bool {
        let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
        within(kv.mod_revision, self.min_mod, self.max_mod)
            && within(kv.create_revision, self.min_create, self.max_create)
    }
}

#[derive(Debug, Clone)]
pub struct Range {
    pub keys: KeyRange,
    /// 0 is no limit.
    pub limit: usize,
    /// 0 is the newest.
    pub revision: i64,
    pub order: Order,
    pub target: Target,
    pub bounds: Bounds,
    /// Values are wanted by nobody. The versions found are shared, values and all; whoever
    /// writes them out leaves the values away.
    pub keys_only: bool,
    pub count_only: bool,
}

impl Range {
    /// The newest version of these keys, without limit or order.
    pub fn of(keys: KeyRange) -> Range {
        Range {
            keys,
            limit: 0,
            revision: 0,
            order: Order::None,
            target: Target::Key,
            bounds: Bounds::default(),
            keys_only: false,
            count_only: false,
        }
    }

    /// How many versions must be collected before sorting and cutting. One more than the
    /// limit tells whether there are more.
    pub(crate) fn fetch_limit(&self) -> usize {
        let all = self.limit == 0 || self.order != Order::None || self.bounds.any();
        if all { usize::MAX } else { self.limit + 1 }
    }

    /// Applies bounds, order and limit to what was collected.
    pub(crate) fn finish(&self, mut kvs: Vec<Arc<KeyValue>>, found: Found) -> RangeResult {
        kvs.retain(|kv| self.bounds.admit(kv));
        match self.effective_order() {
            Order::None => {}
            Order::Ascend => kvs.sort_by(|a, b| self.compare(a, b)),
            Order::Descend => kvs.sort_by(|a, b| self.compare(b, a)),
        }
        let more = self.limit > 0 && kvs.len() > self.limit;
        if more {
            kvs.truncate(self.limit);
        }
        RangeResult { kvs, more, keys_only: self.keys_only, count: found.count, revision: found.revision }
    }

    /// Keys come in ascending order by themselves. A target other than the key without an
    /// order means ascending, as etcd has it.
    fn effective_order(&self) -> Order {
        match (self.target, self.order) {
            (Target::Key, Order::Ascend) => Order::None,
            (Target::Key, order) => order,
            (_, Order::None) => Order::Ascend,
            (_, order) => order,
        }
    }

    fn compare(&self, a: &KeyValue, b: &KeyValue) -> Ordering {
        match self.target {
            Target::Key => a.key.cmp(&b.key),
            Target::Version => a.version.cmp(&b.version),
            Target::Create => a.create_revision.cmp(&b.create_revision),
            Target::Mod => a.mod_revision.cmp(&b.mod_revision),
            Target::Value => a.value.cmp(&b.value),
        }
    }
}

pub(crate) struct Found {
    pub count: usize,
    pub revision: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResult {
    pub kvs: Vec<Arc<KeyValue>>,
    pub more: bool,
    pub keys_only: bool,
    /// Keys in the range at that revision, whatever limit and bounds say.
    pub count: usize,
    /// The store's revision at the time of reading.
    pub revision: i64,
}
