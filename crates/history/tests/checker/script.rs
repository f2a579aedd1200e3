//! Short words for histories made by hand.

use bytes::Bytes;
use history::{
    Answer, At, Compare, Delete, Event, History, KeyValue, Keys, Kind, Message, Operation, Outcome, Put, Range,
    RangeAnswer, Relation, Request, Response, Target, Txn, TxnOp, Watch, check,
};

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Client, call and return, what was asked, what came of it.
pub fn op(client: u32, time: (u64, u64), request: Request, outcome: Outcome) -> Operation {
    Operation { client, call: time.0, ret: time.1, request, outcome }
}

pub fn put(key: &str, value: &str) -> Request {
    put_on(0, key, value)
}

pub fn put_on(lease: i64, key: &str, value: &str) -> Request {
    Request::Put(Put { key: bytes(key), value: bytes(value), lease, prev_kv: false })
}

pub fn delete(key: &str) -> Request {
    Request::Delete(Delete { keys: Keys::One(bytes(key)), prev_kv: false })
}

pub fn put_both(keys: [&str; 2], value: &str) -> Request {
    let put = |key| TxnOp::Put(Put { key: bytes(key), value: bytes(value), lease: 0, prev_kv: false });
    Request::Txn(Txn { success: keys.map(put).to_vec(), ..Txn::default() })
}

/// Puts if the key was last changed at this revision.
pub fn swap(key: &str, at: i64, value: &str) -> Request {
    let compare = Compare { key: bytes(key), relation: Relation::Equal, target: Target::Mod(at) };
    let put = TxnOp::Put(Put { key: bytes(key), value: bytes(value), lease: 0, prev_kv: false });
    Request::Txn(Txn { compare: vec![compare], success: vec![put], failure: Vec::new() })
}

pub fn get(prefix: &str) -> Request {
    Request::Range(Range { keys: Keys::Prefix(bytes(prefix)), limit: 0 }, At::Latest)
}

fn answered(revision: i64, answer: Answer) -> Outcome {
    Outcome::Answered { revision, answer }
}

pub fn done(revision: i64) -> Outcome {
    answered(revision, Answer::Done)
}

pub fn written(revision: i64) -> Outcome {
    answered(revision, Answer::Put { prev_kv: None })
}

pub fn deleted(revision: i64) -> Outcome {
    answered(revision, Answer::Delete { deleted: 1, prev_kvs: Vec::new() })
}

pub fn swapped(revision: i64, puts: usize) -> Outcome {
    let answers = vec![Answer::Put { prev_kv: None }; puts];
    answered(revision, Answer::Txn { succeeded: true, answers })
}

pub fn shown(revision: i64, kvs: &[KeyValue]) -> Outcome {
    answered(revision, Answer::Range(RangeAnswer { kvs: kvs.to_vec(), count: kvs.len(), more: false }))
}

/// Key, value, creation, last change, version.
pub fn kv(key: &str, value: &str, create_revision: i64, mod_revision: i64, version: i64) -> KeyValue {
    KeyValue { key: bytes(key), value: bytes(value), create_revision, mod_revision, version, lease: 0 }
}

/// The first version of a key.
pub fn new(key: &str, value: &str, revision: i64) -> KeyValue {
    kv(key, value, revision, revision, 1)
}

pub fn gone(key: &str, revision: i64) -> KeyValue {
    KeyValue::tombstone(bytes(key), revision)
}

/// A watch of everything.
pub fn watch(start_revision: i64, responses: Vec<Response>) -> Watch {
    Watch {
        client: 9,
        call: 0,
        keys: Keys::all(),
        start_revision,
        prev_kv: false,
        no_put: false,
        no_delete: false,
        fragment: false,
        responses,
    }
}

pub fn created(at: u64, revision: i64) -> Response {
    Response { at, revision, message: Message::Created }
}

pub fn progress(at: u64, revision: i64) -> Response {
    Response { at, revision, message: Message::Progress }
}

pub fn events(at: u64, kvs: impl IntoIterator<Item = KeyValue>) -> Response {
    let events: Vec<Event> = kvs.into_iter().map(|kv| Event { kv, prev_kv: None }).collect();
    let revision = events.iter().map(|event| event.kv.mod_revision).max().expect("events");
    Response { at, revision, message: Message::Events { events, fragment: false } }
}

/// Checks a history; `expected` are the kinds of violations it has, and `words` stand in them.
pub fn expect(operations: Vec<Operation>, watches: Vec<Watch>, expected: &[Kind], words: &[&str]) {
    let history = History { operations, watches, ticks_per_second: 10, ..History::default() };
    let report = check(&history);
    let mut kinds: Vec<Kind> = report.violations.iter().map(|v| v.kind).collect();
    kinds.dedup();
    assert_eq!(kinds, expected, "{report}");
    assert!(!report.undecided);
    for word in words {
        assert!(report.to_string().contains(word), "{word:?} is not in {report}");
    }
}
