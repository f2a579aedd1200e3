//! Range options, one table row each.

use bytes::Bytes;
use mvcc::{Bounds, DeleteRange, KeyRange, Op, OpResult, Order, Put, Range, Store, Target, Txn};

/// Keys a=3, b=1, c=2 at revisions 2, 3, 4; then b again, at 5, as 9.
fn store() -> Store {
    let mut store = Store::default();
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("b", "9")] {
        let put = Put { key: Bytes::from(key), value: Bytes::from(value), ..Put::default() };
        store.put(put).expect("a plain put");
    }
    store
}

fn check(edit: impl Fn(&mut Range), expected: &str, more: bool, count: usize) {
    let mut range = Range::of(KeyRange::all());
    edit(&mut range);
    let found = store().range(&range).expect("readable");
    let keys: Vec<&str> = found.kvs.iter().map(|kv| std::str::from_utf8(&kv.key).expect("ascii")).collect();
    let got = (keys.concat(), found.more, found.count);
    assert_eq!(got, (expected.to_owned(), more, count), "{range:?}");
    assert_eq!(found.revision, 5, "the header tells the newest revision");
}

#[test]
fn range_options() {
    check(|_| {}, "abc", false, 3);
    check(|r| r.limit = 2, "ab", true, 3);
    check(|r| r.limit = 3, "abc", false, 3);
    check(|r| r.count_only = true, "", false, 3);
    check(|r| r.order = Order::Descend, "cba", false, 3);
    check(|r| r.target = Target::Value, "cab", false, 3);
    check(|r| (r.target, r.revision) = (Target::Value, 4), "bca", false, 3);
    check(|r| (r.target, r.order) = (Target::Mod, Order::Descend), "bca", false, 3);
    check(|r| (r.target, r.limit) = (Target::Create, 1), "a", true, 3);
    check(|r| (r.target, r.order) = (Target::Version, Order::Descend), "bac", false, 3);
    check(|r| r.revision = 3, "ab", false, 2);
    let min_mod = |min_mod| Bounds { min_mod, ..Bounds::default() };
    check(|r| r.bounds = min_mod(4), "bc", false, 3);
    check(|r| (r.bounds, r.limit) = (min_mod(4), 1), "b", true, 3);
    check(|r| r.bounds = Bounds { max_mod: 4, ..Bounds::default() }, "ac", false, 3);
    let create = Bounds { min_create: 3, max_create: 3, ..Bounds::default() };
    check(|r| r.bounds = create, "b", false, 3);
    check(|r| r.keys = KeyRange::Single(Bytes::from("b")), "b", false, 1);
    check(|r| r.keys = KeyRange::Between(Bytes::from("c"), Bytes::from("a")), "", false, 0);
}

/// A transaction is seen whole: what was before one of its changes is what was before all of them.
#[test]
fn a_watcher_is_told_of_the_version_before_the_transaction() {
    let mut store = Store::default();
    let put = |key: &'static str, value: &'static str| Put { key: key.into(), value: value.into(), ..Put::default() };
    store.put(put("old", "1")).expect("a plain put");
    let all = DeleteRange { keys: KeyRange::all(), prev_kv: true };
    let success = vec![Op::Put(put("old", "2")), Op::Put(put("new", "1")), Op::Delete(all)];
    let result = store.txn(Txn { compare: Vec::new(), success, failure: Vec::new() }).expect("valid");
    let [.., OpResult::Delete(deleted)] = &result.results[..] else { panic!("{result:?}") };
    let answered: Vec<i64> = deleted.prev_kvs.iter().map(|kv| kv.mod_revision).collect();
    assert_eq!(answered, [3, 3], "who deletes is told of what is deleted");
    let told = |key: &str, store: &Store| -> Vec<Option<i64>> {
        let events = store.history().since(3).flat_map(|transaction| transaction.events().iter());
        let of_key = events.filter(|event| event.kv.key == key.as_bytes());
        of_key.map(|event| event.prev.as_ref().map(|prev| prev.mod_revision)).collect()
    };
    assert_eq!((told("old", &store), told("new", &store)), (vec![Some(2), Some(2)], vec![None, None]));
    // A key that is created is told of as one that had not been there.
    store.put(put("again", "1")).expect("a plain put");
    let deleted = DeleteRange { keys: KeyRange::Single("again".into()), prev_kv: false };
    let success = vec![Op::Delete(deleted), Op::Put(put("again", "2"))];
    store.txn(Txn { compare: Vec::new(), success, failure: Vec::new() }).expect("valid");
    assert_eq!(told("again", &store), [None, Some(4), None]);
}
