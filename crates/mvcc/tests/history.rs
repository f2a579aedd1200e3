//! What watchers read: how much at once, and across a compaction.

use mvcc::{Batch, Error, Filter, KeyRange, Limits, Put, Store};

fn put(store: &mut Store, size: usize) {
    store.put(Put { key: "k".into(), value: vec![b'v'; size].into(), ..Put::default() }).expect("a plain put");
}

fn read(store: &Store, from: i64, bytes: usize) -> Result<Batch, Error> {
    let filter = Filter { range: KeyRange::all(), no_put: false, no_delete: false };
    store.history().read(from..i64::MAX, &filter, Limits { events: 100, bytes })
}

/// What comes at once is bounded with the versions before: those are sent along.
#[test]
fn one_reading_of_the_history_is_bounded_in_bytes() {
    let mut store = Store::default();
    for size in [10, 10, 40, 0, 0, 100, 1] {
        put(&mut store, size);
    }
    let (mut next, mut batches) = (0, Vec::new());
    loop {
        let batch = read(&store, next, 50).expect("nothing is compacted");
        batches.push(batch.events.len());
        next = batch.next;
        if batch.done {
            break;
        }
    }
    // 11 and 22; 52; 42 and 2; 102; 103.
    assert_eq!(batches, [2, 1, 2, 1, 1]);
}

/// Whoever watched before a compaction reads on across it, unless much was written meanwhile. Nobody begins before it.
#[test]
fn a_compaction_does_not_matter_to_who_has_nearly_kept_up() {
    let mut store = Store::default();
    (0..20).for_each(|_| put(&mut store, 10));
    for at in [5, 6, 15] {
        store.compact(at).expect("in the past");
    }
    let seen = |from: i64, store: &Store| read(store, from, usize::MAX).map(|batch| batch.events[0].kv.mod_revision);
    let compacted = |at: i64| Error::Compacted { compact_revision: at };
    assert_eq!((seen(2, &store), seen(14, &store), seen(15, &store)), (Ok(2), Ok(14), Ok(15)));
    assert_eq!((store.history().admit(14), store.history().admit(15)), (Err(compacted(15)), Ok(())));

    (0..20).for_each(|_| put(&mut store, 1 << 20));
    store.compact(store.revision()).expect("the newest");
    let newest = store.revision();
    assert_eq!((seen(14, &store), seen(newest - 1, &store)), (Err(compacted(newest)), Ok(newest - 1)));

    let records = store.records().into_iter().map(|(at, kv)| (at, (*kv).clone()));
    let restored = Store::restore(newest, newest, [], records).expect("valid");
    assert_eq!((seen(newest - 1, &restored), seen(newest, &restored)), (Err(compacted(newest)), Ok(newest)));
}
