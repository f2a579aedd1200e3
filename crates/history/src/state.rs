//! The sequential model: what a store would do if its clients came one after the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::kv::{Event, KeyValue, Keys};
use crate::operation::{Answer, Compare, Delete, Put, Range, RangeAnswer, Relation, Request, Target, Txn, TxnOp};

/// The key space at one revision. Each transaction that changes something takes the next
/// revision; a change is undone by [`State::undo`], which makes searching cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub revision: i64,
    pub kvs: BTreeMap<Bytes, KeyValue>,
}

impl Default for State {
    /// An empty store is at revision 1, as etcd's is.
    fn default() -> State {
        State { revision: 1, kvs: BTreeMap::new() }
    }
}

impl State {
    /// Answers a request and changes the state as it asks. Whether leases exist is none of
    /// the key space's business: a put is believed, and a revocation deletes what is attached.
    pub fn apply(&mut self, request: &Request) -> (Answer, Vec<Event>) {
        let mut write = Write { revision: self.revision + 1, state: self, changes: Vec::new() };
        let answer = match request {
            Request::Range(range, _) => Answer::Range(write.state.range(range)),
            Request::Put(put) => write.put(put),
            Request::Delete(delete) => write.delete(delete),
            Request::Txn(txn) => write.txn(txn),
            Request::LeaseRevoke { id } => write.revoke(*id),
            Request::Compact { .. } | Request::LeaseGrant { .. } | Request::LeaseKeepAlive { .. } => Answer::Done,
        };
        let changes = write.changes;
        if !changes.is_empty() {
            self.revision += 1;
        }
        (answer, changes)
    }

    /// Takes back what the last transaction changed.
    pub fn undo(&mut self, changes: &[Event]) {
        if changes.is_empty() {
            return;
        }
        self.revision -= 1;
        for change in changes.iter().rev() {
            match &change.prev_kv {
                Some(prev) => self.kvs.insert(prev.key.clone(), prev.clone()),
                None => self.kvs.remove(&change.kv.key),
            };
        }
    }

    /// Makes a transaction's changes without asking where they come from.
    pub fn adopt(&mut self, kvs: Vec<KeyValue>) -> Vec<Event> {
        let mut write = Write { revision: self.revision + 1, state: self, changes: Vec::new() };
        for kv in kvs {
            write.push(kv);
        }
        let changes = write.changes;
        self.revision += 1;
        changes
    }

    pub fn range(&self, range: &Range) -> RangeAnswer {
        let mut answer = RangeAnswer::default();
        for kv in self.matching(&range.keys) {
            answer.count += 1;
            if range.limit == 0 || answer.kvs.len() < range.limit {
                answer.kvs.push(kv.clone());
            }
        }
        answer.more = answer.kvs.len() < answer.count;
        answer
    }

    /// The leases that have keys.
    pub fn attached_leases(&self) -> Vec<i64> {
        let mut leases: Vec<i64> = self.kvs.values().map(|kv| kv.lease).filter(|lease| *lease != 0).collect();
        leases.sort_unstable();
        leases.dedup();
        leases
    }

    /// A key of this lease, if it has any.
    pub fn attached(&self, lease: i64) -> Option<&KeyValue> {
        self.kvs.values().find(|kv| kv.lease == lease)
    }

    fn matching<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = &'a KeyValue> {
        let from = (Bound::Included(keys.start().clone()), Bound::Unbounded);
        self.kvs.range(from).take_while(|(key, _)| keys.contains(key)).map(|(_, kv)| kv)
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.kvs.get(&compare.key);
        let absent = KeyValue::default();
        let kv = found.unwrap_or(&absent);
        let order = match &compare.target {
            Target::Value(_) if found.is_none() => return false,
            Target::Value(value) => kv.value.cmp(value),
            Target::Version(version) => kv.version.cmp(version),
            Target::Create(revision) => kv.create_revision.cmp(revision),
            Target::Mod(revision) => kv.mod_revision.cmp(revision),
            Target::Lease(lease) => kv.lease.cmp(lease),
        };
        match compare.relation {
            Relation::Equal => order == Ordering::Equal,
            Relation::NotEqual => order != Ordering::Equal,
            Relation::Greater => order == Ordering::Greater,
            Relation::Less => order == Ordering::Less,
        }
    }
}

/// A transaction under way; what it reads, it reads with its own changes.
struct Write<'a> {
    state: &'a mut State,
    revision: i64,
    changes: Vec<Event>,
}

impl Write<'_> {
    fn push(&mut self, kv: KeyValue) {
        let key = kv.key.clone();
        let prev_kv =
            if kv.is_tombstone() { self.state.kvs.remove(&key) } else { self.state.kvs.insert(key, kv.clone()) };
        self.changes.push(Event { kv, prev_kv });
    }

    fn put(&mut self, put: &Put) -> Answer {
        let old = self.state.kvs.get(&put.key).cloned();
        self.push(KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: old.as_ref().map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: old.as_ref().map_or(0, |kv| kv.version) + 1,
            lease: put.lease,
        });
        Answer::Put { prev_kv: old.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &Delete) -> Answer {
        let doomed: Vec<KeyValue> = self.state.matching(&delete.keys).cloned().collect();
        for kv in &doomed {
            self.push(KeyValue::tombstone(kv.key.clone(), self.revision));
        }
        let deleted = doomed.len();
        Answer::Delete { deleted, prev_kvs: if delete.prev_kv { doomed } else { Vec::new() } }
    }

    fn txn(&mut self, txn: &Txn) -> Answer {
        let succeeded = txn.compare.iter().all(|compare| self.state.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let answers = ops.iter().map(|op| match op {
            TxnOp::Range(range) => Answer::Range(self.state.range(range)),
            TxnOp::Put(put) => self.put(put),
            TxnOp::Delete(delete) => self.delete(delete),
        });
        Answer::Txn { answers: answers.collect(), succeeded }
    }

    fn revoke(&mut self, lease: i64) -> Answer {
        let attached = self.state.kvs.values().filter(|kv| kv.lease == lease);
        let doomed: Vec<Bytes> = attached.map(|kv| kv.key.clone()).collect();
        for key in doomed {
            self.push(KeyValue::tombstone(key, self.revision));
        }
        Answer::Done
    }
}
