//! The store against a naive model: a full copy of the key space per revision and a plain
//! list of events. Whatever commands come, both must answer every question alike.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mvcc::{
    Compare, DeleteRange, Error, Filter, KeyRange, KeyValue, Limits, Op, OpResult, Put, Range, Registry, Relation,
    Store, Txn, Value,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Command {
    Put(u8, u8, i64),
    KeepValue(u8),
    Delete(u8, u8),
    Cas(u8, i64, u8),
    Batch(Vec<(u8, u8)>, u8),
    Grant(i64),
    Revoke(i64),
    Compact(i64),
    Restart,
}

type State = BTreeMap<Bytes, KeyValue>;

/// Revision by revision, without any cleverness.
struct Model {
    states: Vec<State>,
    events: Vec<(i64, KeyValue)>,
    leases: BTreeSet<i64>,
    compacted: i64,
}

fn key(k: u8) -> Bytes {
    Bytes::from(format!("k{}", k % 8))
}

fn value(v: u8) -> Bytes {
    Bytes::from(vec![v; usize::from(v % 3)])
}

impl Model {
    fn new() -> Model {
        Model { states: vec![State::new(); 2], events: Vec::new(), leases: BTreeSet::new(), compacted: 0 }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).expect("few states") - 1
    }

    fn state(&self) -> &State {
        self.states.last().expect("never empty")
    }

    /// One transaction of puts and deletes.
    fn write(&mut self, puts: Vec<(Bytes, Option<Bytes>, i64)>, deletes: Vec<Bytes>) {
        let main = self.revision() + 1;
        let mut state = self.state().clone();
        let before = self.events.len();
        for (key, value, lease) in puts {
            let old = state.get(&key).cloned().unwrap_or_default();
            let kv = KeyValue {
                key: key.clone(),
                value: value.unwrap_or(old.value),
                create_revision: if old.version == 0 { main } else { old.create_revision },
                mod_revision: main,
                version: old.version + 1,
                lease,
            };
            state.insert(key, kv.clone());
            self.events.push((main, kv));
        }
        for key in deletes {
            if state.remove(&key).is_some() {
                self.events.push((main, KeyValue::tombstone(key, main)));
            }
        }
        if self.events.len() > before {
            self.states.push(state);
        }
    }

    fn keys_in(&self, range: &KeyRange) -> Vec<Bytes> {
        let keys = self.state().keys();
        keys.filter(|k| range.contains(k)).cloned().collect()
    }
}

fn range(a: u8, b: u8) -> KeyRange {
    KeyRange::from_wire(key(a), key(b))
}

/// Runs one command against both and checks that they answer alike.
fn run(store: &mut Store, model: &mut Model, command: &Command) {
    match command.clone() {
        Command::Put(k, v, lease) => {
            let known = lease == 0 || model.leases.contains(&lease);
            let put = Put { key: key(k), value: value(v), lease, prev_kv: true, ..Put::default() };
            let before = model.state().get(&key(k)).cloned();
            match store.put(put) {
                Ok(result) => {
                    assert!(known);
                    assert_eq!(result.prev_kv.as_deref(), before.as_ref());
                    model.write(vec![(key(k), Some(value(v)), lease)], vec![]);
                    assert_eq!(result.revision, model.revision());
                }
                Err(error) => assert!(!known && error == Error::LeaseNotFound),
            }
        }
        Command::KeepValue(k) => {
            let put = Put { key: key(k), ignore_value: true, ..Put::default() };
            let known = model.state().contains_key(&key(k));
            assert_eq!(store.put(put).is_ok(), known);
            if known {
                model.write(vec![(key(k), None, 0)], vec![]);
            }
        }
        Command::Delete(a, b) => {
            let keys = range(a, b);
            let doomed = model.keys_in(&keys);
            let prev_kv = true;
            let result = store.delete_range(&DeleteRange { keys, prev_kv });
            let prev: Vec<Bytes> = result.prev_kvs.iter().map(|kv| kv.key.clone()).collect();
            assert_eq!(prev, doomed);
            model.write(vec![], doomed);
            assert_eq!(result.revision, model.revision());
        }
        Command::Cas(k, expected, v) => {
            let current = model.state().get(&key(k)).map_or(0, |kv| kv.mod_revision);
            let put = Put { key: key(k), value: value(v), ..Put::default() };
            let txn = Txn {
                compare: vec![Compare {
                    keys: KeyRange::Single(key(k)),
                    relation: Relation::Equal,
                    value: Value::Mod(expected),
                }],
                success: vec![Op::Put(put)],
                failure: vec![Op::Range(Range::of(KeyRange::Single(key(k))))],
            };
            let result = store.txn(txn).expect("nothing in it can fail");
            assert_eq!(result.succeeded, current == expected);
            if result.succeeded {
                model.write(vec![(key(k), Some(value(v)), 0)], vec![]);
            }
            assert_eq!(result.revision, model.revision());
        }
        Command::Batch(puts, d) => {
            let mut ops: Vec<Op> = Vec::new();
            let mut wanted = BTreeMap::new();
            for (k, v) in &puts {
                wanted.insert(key(*k), value(*v));
            }
            wanted.remove(&key(d));
            for (key, value) in &wanted {
                ops.push(Op::Put(Put { key: key.clone(), value: value.clone(), ..Put::default() }));
            }
            let inner = Txn {
                success: vec![Op::Delete(DeleteRange { keys: KeyRange::Single(key(d)), prev_kv: false })],
                ..Txn::default()
            };
            ops.push(Op::Txn(inner));
            ops.push(Op::Range(Range::of(KeyRange::all())));
            let txn = Txn { success: ops, ..Txn::default() };
            let result = store.txn(txn).expect("nothing in it can fail");
            let puts = wanted.into_iter().map(|(k, v)| (k, Some(v), 0)).collect();
            model.write(puts, vec![key(d)]);
            let Some(OpResult::Range(read)) = result.results.last() else {
                panic!("the last operation is a range");
            };
            let seen: Vec<&KeyValue> = read.kvs.iter().map(|kv| &**kv).collect();
            let expected: Vec<&KeyValue> = model.state().values().collect();
            assert_eq!(seen, expected, "a transaction reads its own writes");
        }
        Command::Grant(id) => {
            assert_eq!(store.grant(id, 10).is_ok(), model.leases.insert(id));
        }
        Command::Revoke(id) => {
            let known = model.leases.remove(&id);
            assert_eq!(store.revoke(id).is_ok(), known);
            if known {
                let held = |kv: &&KeyValue| kv.lease == id;
                let keys = model.state().values().filter(held);
                let doomed = keys.map(|kv| kv.key.clone()).collect();
                model.write(vec![], doomed);
            }
        }
        Command::Compact(back) => {
            let at = model.revision() - back;
            let expected = at > model.compacted && at <= model.revision();
            assert_eq!(store.compact(at).is_ok(), expected);
            if expected {
                model.compacted = at;
            }
        }
        Command::Restart => {
            let leases: Vec<_> = store.leases().iter().map(|(id, l)| (id, l.ttl_seconds)).collect();
            let records = store.records();
            let records = records.into_iter().map(|(at, kv)| (at, (*kv).clone()));
            *store = Store::restore(store.revision(), store.compacted(), leases, records)
                .expect("what a store wrote it can read");
        }
    }
}

fn compare(store: &Store, model: &Model) {
    assert_eq!(store.revision(), model.revision());
    assert_eq!(store.compacted(), model.compacted);
    assert_eq!(store.live_keys(), model.state().len());
    for at in 1..=model.revision() {
        let mut read = Range::of(KeyRange::all());
        read.revision = at;
        if at < model.compacted {
            let compact_revision = model.compacted;
            let expected = Err(Error::Compacted { compact_revision });
            assert_eq!(store.range(&read), expected);
            continue;
        }
        let found = store.range(&read).expect("not compacted");
        let expected: Vec<&KeyValue> = model.states[usize::try_from(at).expect("positive")].values().collect();
        assert_eq!(found.kvs.iter().map(|kv| &**kv).collect::<Vec<_>>(), expected);
        watch(store, model, at);
    }
    watch_together(store, model);
    for lease in &model.leases {
        let keys = &store.leases().get(*lease).expect("granted").keys;
        let held = model.state().values().filter(|kv| kv.lease == *lease);
        assert_eq!(*keys, held.map(|kv| kv.key.clone()).collect());
    }
}

/// A watcher resuming at `from`, reading in small bites, sees every event once, in order.
fn watch(store: &Store, model: &Model, from: i64) {
    let filter = Filter { range: KeyRange::from_wire(key(2), key(6)), no_put: false, no_delete: from % 3 == 0 };
    let wanted = |kv: &KeyValue| filter.range.contains(&kv.key) && !(filter.no_delete && kv.is_tombstone());
    let happened = model.events.iter().filter(|(at, kv)| *at >= from && wanted(kv));
    let expected: Vec<&KeyValue> = happened.map(|(_, kv)| kv).collect();
    let mut seen = Vec::new();
    let mut next = from;
    let limits = Limits { events: 1, bytes: usize::MAX };
    loop {
        let batch = store.history().read(next..i64::MAX, &filter, limits).expect("uncompacted");
        seen.extend(batch.events.iter().map(|e| (*e.kv).clone()));
        next = batch.next;
        if batch.done {
            break;
        }
    }
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected, "watch from {from}");
}

/// Watchers who read the history together, a part at a time, see what each would see alone.
fn watch_together(store: &Store, model: &Model) {
    let ranges = [KeyRange::Single(key(3)), KeyRange::from_wire(key(2), key(6)), KeyRange::all()];
    let starts = model.compacted.max(1)..=model.revision();
    let mut registry = Registry::default();
    let mut watchers: Vec<(i64, Filter, Vec<KeyValue>)> = Vec::new();
    for (n, from) in starts.enumerate() {
        let range = ranges[n % ranges.len()].clone();
        registry.insert(range.clone(), n);
        watchers.push((from, Filter { range, no_put: false, no_delete: false }, Vec::new()));
    }
    let expected = watchers.iter().map(|(from, filter, _)| {
        let wanted = |(at, kv): &&(i64, KeyValue)| at >= from && filter.range.contains(&kv.key);
        model.events.iter().filter(wanted).map(|(_, kv)| kv.clone()).collect::<Vec<_>>()
    });
    let expected: Vec<_> = expected.collect();
    let limits = Limits { events: usize::MAX, bytes: usize::MAX };
    while let Some(from) = watchers.iter().map(|(next, ..)| *next).min() {
        let part = store.history().part(from, 2).expect("uncompacted");
        for (n, revisions) in registry.concerned(&part.transactions) {
            let (next, filter, seen) = &mut watchers[n];
            let revisions = revisions.start.max(*next)..revisions.end;
            let batch = store.history().read(revisions, filter, limits).expect("uncompacted");
            seen.extend(batch.events.iter().map(|event| (*event.kv).clone()));
        }
        watchers.iter_mut().for_each(|(next, ..)| *next = part.next.max(*next));
        if part.done {
            break;
        }
    }
    assert_eq!(watchers.into_iter().map(|(.., seen)| seen).collect::<Vec<_>>(), expected);
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>(), 0i64..3).prop_map(|(k, v, l)| Command::Put(k, v, l)),
        1 => any::<u8>().prop_map(Command::KeepValue),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Command::Delete(a, b)),
        3 => (any::<u8>(), 0i64..40, any::<u8>()).prop_map(|(k, r, v)| Command::Cas(k, r, v)),
        2 => (prop::collection::vec((any::<u8>(), any::<u8>()), 0..4), any::<u8>())
            .prop_map(|(puts, d)| Command::Batch(puts, d)),
        1 => (1i64..3).prop_map(Command::Grant),
        1 => (1i64..3).prop_map(Command::Revoke),
        2 => (-1i64..12).prop_map(Command::Compact),
        1 => Just(Command::Restart),
    ]
}

proptest! {
    #[test]
    fn agrees_with_the_naive_model(commands in prop::collection::vec(command(), 1..60)) {
        let (mut store, mut model) = (Store::default(), Model::new());
        for command in &commands {
            run(&mut store, &mut model, command);
            compare(&store, &model);
        }
    }

    /// Checkpoints that only ever see the changes rebuild the same store as a full copy.
    #[test]
    fn changes_add_up_to_the_records(commands in prop::collection::vec(command(), 1..60)) {
        let (mut store, mut model) = (Store::default(), Model::new());
        let mut kept = BTreeMap::new();
        for (i, command) in commands.iter().enumerate() {
            if matches!(command, Command::Restart) {
                continue;
            }
            run(&mut store, &mut model, command);
            if i % 7 == 0 || i + 1 == commands.len() {
                let changes = store.take_changes();
                kept.extend(changes.written);
                for revision in changes.removed {
                    prop_assert!(kept.remove(&revision).is_some(), "removed what was never kept");
                }
                prop_assert_eq!(kept.clone().into_iter().collect::<Vec<_>>(), store.records());
            }
        }
    }
}
