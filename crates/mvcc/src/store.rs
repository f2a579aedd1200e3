//! The replicated key space: index, history and leases behind one door.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::Error;
use crate::history::{History, Transaction};
use crate::key_index::KeyIndex;
use crate::kv::{Event, KeyRange, KeyValue, Revision};
use crate::lease::{LEASE_BYTES, Leases};
use crate::range::{Found, Range, RangeResult};

/// What a version costs beside its key and value: its place in index, history and checkpoint.
const VERSION_OVERHEAD_BYTES: usize = 256;

#[derive(Debug, Clone, Default)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutResult {
    pub prev_kv: Option<Arc<KeyValue>>,
    pub revision: i64,
}

#[derive(Debug, Clone)]
pub struct DeleteRange {
    pub keys: KeyRange,
    pub prev_kv: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteResult {
    pub deleted: usize,
    pub prev_kvs: Vec<Arc<KeyValue>>,
    pub revision: i64,
}

/// What a checkpoint has to write and to remove to catch up.
#[derive(Debug, Default)]
pub struct Changes {
    pub written: Vec<(Revision, Arc<KeyValue>)>,
    pub removed: Vec<Revision>,
    /// What those written come to, with those among them that were compacted since.
    pub written_bytes: usize,
}

#[derive(Debug)]
pub struct Store {
    index: BTreeMap<Bytes, KeyIndex>,
    history: History,
    leases: Leases,
    revision: i64,
    compacted: i64,
    size_bytes: usize,
    live_keys: usize,
    changes: Changes,
}

impl Default for Store {
    /// An empty store is at revision 1, as etcd's is.
    fn default() -> Store {
        Store {
            index: BTreeMap::new(),
            history: History::default(),
            leases: Leases::default(),
            revision: 1,
            compacted: 0,
            size_bytes: 0,
            live_keys: 0,
            changes: Changes::default(),
        }
    }
}

impl Store {
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Reads and watches below this revision are refused; 0 if nothing was ever compacted.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Bytes of all versions and leases held, as a quota counts them.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes + self.leases.len() * LEASE_BYTES
    }

    /// How many keys exist now.
    pub fn live_keys(&self) -> usize {
        self.live_keys
    }

    pub fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        self.check_revision(range.revision)?;
        Ok(self.collect(range, self.revision))
    }

    pub(crate) fn check_revision(&self, revision: i64) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        if revision > 0 && revision < self.compacted {
            let compact_revision = self.compacted;
            return Err(Error::Compacted { compact_revision });
        }
        Ok(())
    }

    /// In a transaction a negative revision is not the newest: it is before the first, and so is gone once anything is.
    /// Before any compaction -1 is let through, as etcd does.
    pub(crate) fn check_txn_revision(&self, revision: i64) -> Result<(), Error> {
        let oldest = if self.compacted == 0 { -1 } else { self.compacted };
        if revision < 0 && revision < oldest {
            return Err(Error::Compacted { compact_revision: self.compacted });
        }
        self.check_revision(revision)
    }

    fn collect(&self, range: &Range, newest: i64) -> RangeResult {
        let at = if range.revision > 0 { range.revision } else { newest };
        let limit = if range.count_only { 0 } else { range.fetch_limit() };
        let mut kvs = Vec::new();
        let mut count = 0;
        for (_, key) in self.index.range::<[u8], _>(range.keys.bounds()) {
            let found = if at == newest { key.current() } else { key.get(at) };
            let Some(kv) = found else { continue };
            count += 1;
            if kvs.len() < limit {
                kvs.push(kv.clone());
            }
        }
        let revision = newest;
        range.finish(kvs, Found { count, revision })
    }

    /// The living versions of a range, by key.
    pub(crate) fn current(&self, keys: &KeyRange) -> impl Iterator<Item = &Arc<KeyValue>> {
        self.index.range::<[u8], _>(keys.bounds()).filter_map(|(_, key)| key.current())
    }

    fn current_key(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.index.get(key)?.current()
    }

    pub fn put(&mut self, put: Put) -> Result<PutResult, Error> {
        self.check_put(&put)?;
        let mut write = self.write();
        let result = write.put(put);
        write.commit();
        Ok(result)
    }

    /// Of its lease first; within a transaction etcd looks for the key first.
    fn check_put(&self, put: &Put) -> Result<(), Error> {
        self.check_lease(put)?;
        self.check_kept(put)
    }

    pub(crate) fn check_txn_put(&self, put: &Put) -> Result<(), Error> {
        self.check_kept(put)?;
        self.check_lease(put)
    }

    fn check_lease(&self, put: &Put) -> Result<(), Error> {
        let known = put.lease == 0 || self.leases.get(put.lease).is_some();
        if known { Ok(()) } else { Err(Error::LeaseNotFound) }
    }

    /// There is something whose value or lease can be kept.
    fn check_kept(&self, put: &Put) -> Result<(), Error> {
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && self.current_key(&put.key).is_none() { Err(Error::KeyNotFound) } else { Ok(()) }
    }

    pub fn delete_range(&mut self, delete: &DeleteRange) -> DeleteResult {
        let mut write = self.write();
        let result = write.delete_range(delete);
        write.commit();
        result
    }

    pub fn grant(&mut self, id: i64, ttl_seconds: i64) -> Result<(), Error> {
        self.leases.grant(id, ttl_seconds)
    }

    /// Ends a lease and deletes its keys, all in one transaction.
    pub fn revoke(&mut self, id: i64) -> Result<(), Error> {
        let lease = self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
        let mut write = self.write();
        for key in lease.keys {
            write.delete(key);
        }
        write.commit();
        Ok(())
    }

    /// Lets go of history before `at`. Costs as much as was written since the last time, not
    /// as much as there are keys: only keys that changed up to `at` have anything to drop.
    pub fn compact(&mut self, at: i64) -> Result<(), Error> {
        if at <= self.compacted {
            let compact_revision = self.compacted;
            return Err(Error::Compacted { compact_revision });
        }
        if at > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = at;
        for transaction in self.history.compact(at) {
            for event in transaction.events() {
                self.compact_key(&event.kv.key, at);
            }
        }
        Ok(())
    }

    fn compact_key(&mut self, key: &Bytes, at: i64) {
        let Some(index) = self.index.get_mut(key) else {
            return;
        };
        index.compact(at, |revision, kv| {
            self.size_bytes -= charge(&kv);
            self.changes.removed.push(revision);
        });
        if index.is_empty() {
            self.index.remove(key);
        }
    }

    pub(crate) fn write(&mut self) -> Write<'_> {
        Write { main: self.revision + 1, events: Vec::new(), store: self }
    }

    /// What changed since the last call, for a checkpoint. Versions that were written and
    /// compacted in between are in neither list.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.changes);
        if changes.removed.is_empty() || changes.written.is_empty() {
            return changes;
        }
        changes.removed.sort_unstable();
        let removed = &changes.removed;
        let first = changes.written[0].0;
        changes.written.retain(|(revision, _)| removed.binary_search(revision).is_err());
        changes.removed.retain(|revision| *revision < first);
        changes
    }

    /// How many records [`Store::take_changes`] would at most name.
    pub fn changed(&self) -> usize {
        self.changes.written.len() + self.changes.removed.len()
    }

    /// How many bytes are kept for it.
    pub fn changed_bytes(&self) -> usize {
        self.changes.written_bytes
    }

    /// Every version held, in the order in which they were written.
    pub fn records(&self) -> Vec<(Revision, Arc<KeyValue>)> {
        let versions = self.index.values().flat_map(KeyIndex::versions);
        let mut records: Vec<_> = versions.map(|(rev, kv)| (rev, kv.clone())).collect();
        records.sort_unstable_by_key(|(revision, _)| *revision);
        records
    }

    /// Rebuilds a store from what [`Store::records`] and the checkpoints' [`Changes`] kept.
    /// Records must come in revision order.
    pub fn restore(
        revision: i64,
        compacted: i64,
        leases: impl IntoIterator<Item = (i64, i64)>,
        records: impl IntoIterator<Item = (Revision, KeyValue)>,
    ) -> Result<Store, Error> {
        let mut store = Store { revision: 0, ..Store::default() };
        for (id, ttl_seconds) in leases {
            store.leases.grant(id, ttl_seconds)?;
        }
        let mut events = Vec::new();
        for (at, mut kv) in records {
            assert!(at.main <= revision, "a record from after the checkpoint");
            if at.main != store.revision {
                store.close_transaction(&mut events);
                store.revision = at.main;
            }
            let name = std::mem::take(&mut kv.key);
            events.push(store.insert(at, name, |key, _| KeyValue { key, ..kv }).0);
        }
        store.close_transaction(&mut events);
        store.revision = revision;
        store.changes = Changes::default();
        if compacted > 0 {
            store.compact(compacted)?;
            store.history.forget_compacted();
        }
        Ok(store)
    }

    fn close_transaction(&mut self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.history.push(Transaction::of(std::mem::take(events)));
    }

    /// Adds a version to the index and moves its key between leases. `next` makes it of the key's name, as all its
    /// versions share it, and of the one that lives until then, which is returned beside what watchers see.
    fn insert(
        &mut self,
        at: Revision,
        key: Bytes,
        next: impl FnOnce(Bytes, Option<&KeyValue>) -> KeyValue,
    ) -> (Event, Option<Arc<KeyValue>>) {
        let (index, key) = match self.index.get_mut(&key) {
            Some(index) => {
                let named = index.versions().next().map_or(key, |(_, first)| first.key.clone());
                (index, named)
            }
            None => (self.index.entry(key.clone()).or_default(), key),
        };
        let prev = index.current().cloned();
        let kv = Arc::new(next(key, prev.as_deref()));
        // A watcher sees a transaction whole: before it was what was there before all of it. Before a key is created there
        // is nothing, though the same transaction may have deleted it.
        let seen = match () {
            () if kv.create_revision == at.main && !kv.is_tombstone() => None,
            () if index.changed_at(at.main) => index.get(at.main - 1).cloned(),
            () => prev.clone(),
        };
        index.push(at, kv.clone());
        let before = prev.as_ref().map_or(0, |prev| prev.lease);
        self.leases.reattach(&kv.key, before, kv.lease);
        self.size_bytes += charge(&kv);
        self.live_keys += usize::from(prev.is_none() && !kv.is_tombstone());
        self.live_keys -= usize::from(prev.is_some() && kv.is_tombstone());
        self.changes.written.push((at, kv.clone()));
        self.changes.written_bytes += cost(&kv);
        (Event { kv, prev: seen }, prev)
    }
}

fn cost(kv: &KeyValue) -> usize {
    kv.bytes() + VERSION_OVERHEAD_BYTES
}

/// What counts for a quota. A deletion counts for nothing: when everything was deleted and compacted there must be room,
/// though the newest deletions stay until the next compaction. Each follows a version that counts until then.
fn charge(kv: &KeyValue) -> usize {
    if kv.is_tombstone() { 0 } else { cost(kv) }
}

/// A write transaction under way. Its changes are in the index at once, visible to its own
/// reads, and become an entry of the history with [`Write::commit`].
pub(crate) struct Write<'a> {
    store: &'a mut Store,
    main: i64,
    events: Vec<Event>,
}

impl Write<'_> {
    /// The revision that a read within this transaction reads at.
    pub(crate) fn visible_revision(&self) -> i64 {
        self.main - i64::from(self.events.is_empty())
    }

    pub(crate) fn range(&self, range: &Range) -> RangeResult {
        self.store.collect(range, self.visible_revision())
    }

    pub(crate) fn put(&mut self, put: Put) -> PutResult {
        let main = self.main;
        let Put { key, value, lease, prev_kv, ignore_value, ignore_lease } = put;
        let prev = self.push(key, |key, kept| KeyValue {
            create_revision: kept.map_or(main, |kv| kv.create_revision),
            mod_revision: main,
            version: kept.map_or(1, |kv| kv.version + 1),
            value: match kept {
                Some(kv) if ignore_value => kv.value.clone(),
                _ => value,
            },
            lease: match kept {
                Some(kv) if ignore_lease => kv.lease,
                _ => lease,
            },
            key,
        });
        PutResult { prev_kv: prev.filter(|_| prev_kv), revision: main }
    }

    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> DeleteResult {
        let doomed: Vec<Arc<KeyValue>> = self.store.current(&delete.keys).cloned().collect();
        for kv in &doomed {
            self.delete(kv.key.clone());
        }
        DeleteResult {
            deleted: doomed.len(),
            revision: self.visible_revision(),
            prev_kvs: if delete.prev_kv { doomed } else { Vec::new() },
        }
    }

    /// Deletes a key that exists.
    fn delete(&mut self, key: Bytes) {
        let main = self.main;
        self.push(key, |key, _| KeyValue::tombstone(key, main));
    }

    /// Adds a version and returns the one that lived until then.
    fn push(&mut self, key: Bytes, next: impl FnOnce(Bytes, Option<&KeyValue>) -> KeyValue) -> Option<Arc<KeyValue>> {
        let sub = i64::try_from(self.events.len()).expect("fewer changes than i64 can count");
        let (event, prev) = self.store.insert(Revision { main: self.main, sub }, key, next);
        self.events.push(event);
        prev
    }

    pub(crate) fn commit(mut self) {
        if self.events.is_empty() {
            return;
        }
        self.store.revision = self.main;
        self.store.close_transaction(&mut self.events);
    }
}
