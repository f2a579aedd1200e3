//! Requests carried out by `mvcc`, and its answers in the checker's words.

use std::sync::Arc;

use bytes::Bytes;
use history::{Answer, At, Compare, Delete, KeyValue, Keys, Put, RangeAnswer, Relation, Request, Target, TxnOp};
use rand::Rng;
use rand::rngs::StdRng;

pub fn execute(store: &mut mvcc::Store, rng: &mut StdRng, request: &Request) -> Result<(i64, Answer), mvcc::Error> {
    let answer = match request {
        Request::Range(range, at) => {
            let newest = store.revision();
            let (read, header) = match at {
                At::Latest => (0, newest),
                // A member that is behind.
                At::Serializable => {
                    let old = rng.random_range(store.compacted().max(newest - 3).max(1)..=newest);
                    (old, old)
                }
                At::Revision(at) => (*at, newest),
            };
            let read = mvcc::Range { limit: range.limit, revision: read, ..mvcc::Range::of(key_range(&range.keys)) };
            return Ok((header, range_answer(&store.range(&read)?)));
        }
        Request::Put(put) => put_answer(&store.put(mvcc_put(put))?),
        Request::Delete(delete) => delete_answer(&store.delete_range(&mvcc_delete(delete))),
        Request::Txn(txn) => {
            let compare = txn.compare.iter().map(mvcc_compare).collect();
            let ops = |ops: &[TxnOp]| ops.iter().map(mvcc_op).collect();
            let result = store.txn(mvcc::Txn { compare, success: ops(&txn.success), failure: ops(&txn.failure) })?;
            let answers = result.results.iter().map(op_answer).collect();
            Answer::Txn { succeeded: result.succeeded, answers }
        }
        Request::Compact { revision } => store.compact(*revision).map(|()| Answer::Done)?,
        Request::LeaseGrant { id, ttl_seconds } => store.grant(*id, *ttl_seconds).map(|()| Answer::Done)?,
        Request::LeaseRevoke { id } => store.revoke(*id).map(|()| Answer::Done)?,
        Request::LeaseKeepAlive { id } => {
            Answer::KeepAlive { ttl_seconds: store.leases().get(*id).map_or(0, |lease| lease.ttl_seconds) }
        }
    };
    Ok((store.revision(), answer))
}

pub fn key_range(keys: &Keys) -> mvcc::KeyRange {
    match keys {
        Keys::One(key) => mvcc::KeyRange::Single(key.clone()),
        Keys::Prefix(prefix) if prefix.is_empty() => mvcc::KeyRange::all(),
        Keys::Prefix(prefix) => {
            let mut end = prefix.to_vec();
            *end.last_mut().expect("not empty") += 1;
            mvcc::KeyRange::Between(prefix.clone(), Bytes::from(end))
        }
    }
}

pub fn key_value(kv: &Arc<mvcc::KeyValue>) -> KeyValue {
    KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn mvcc_put(put: &Put) -> mvcc::Put {
    let Put { key, value, lease, prev_kv } = put.clone();
    mvcc::Put { key, value, lease, prev_kv, ..mvcc::Put::default() }
}

fn mvcc_delete(delete: &Delete) -> mvcc::DeleteRange {
    mvcc::DeleteRange { keys: key_range(&delete.keys), prev_kv: delete.prev_kv }
}

fn mvcc_compare(compare: &Compare) -> mvcc::Compare {
    let relation = match compare.relation {
        Relation::Equal => mvcc::Relation::Equal,
        Relation::NotEqual => mvcc::Relation::NotEqual,
        Relation::Greater => mvcc::Relation::Greater,
        Relation::Less => mvcc::Relation::Less,
    };
    let value = match &compare.target {
        Target::Version(version) => mvcc::Value::Version(*version),
        Target::Create(revision) => mvcc::Value::Create(*revision),
        Target::Mod(revision) => mvcc::Value::Mod(*revision),
        Target::Lease(lease) => mvcc::Value::Lease(*lease),
        Target::Value(value) => mvcc::Value::Value(value.clone()),
    };
    mvcc::Compare { keys: mvcc::KeyRange::Single(compare.key.clone()), relation, value }
}

fn mvcc_op(op: &TxnOp) -> mvcc::Op {
    match op {
        TxnOp::Range(range) => {
            mvcc::Op::Range(mvcc::Range { limit: range.limit, ..mvcc::Range::of(key_range(&range.keys)) })
        }
        TxnOp::Put(put) => mvcc::Op::Put(mvcc_put(put)),
        TxnOp::Delete(delete) => mvcc::Op::Delete(mvcc_delete(delete)),
    }
}

fn op_answer(result: &mvcc::OpResult) -> Answer {
    match result {
        mvcc::OpResult::Range(range) => range_answer(range),
        mvcc::OpResult::Put(put) => put_answer(put),
        mvcc::OpResult::Delete(delete) => delete_answer(delete),
        mvcc::OpResult::Txn(_) => unreachable!("none were nested"),
    }
}

fn range_answer(range: &mvcc::RangeResult) -> Answer {
    let kvs = range.kvs.iter().map(key_value).collect();
    Answer::Range(RangeAnswer { kvs, count: range.count, more: range.more })
}

fn put_answer(put: &mvcc::PutResult) -> Answer {
    Answer::Put { prev_kv: put.prev_kv.as_ref().map(key_value) }
}

fn delete_answer(delete: &mvcc::DeleteResult) -> Answer {
    Answer::Delete { deleted: delete.deleted, prev_kvs: delete.prev_kvs.iter().map(key_value).collect() }
}
