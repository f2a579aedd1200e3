//! Between the wire's messages and the key space's types. Moves and reference counts only.

use std::sync::Arc;

use mvcc::{Compare, DeleteRange, KeyRange, Op, OpResult, Order, Put, Range, Relation, Target, Txn, Value};

use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::mvccpb;

/// A header that tells the revision; who answers is filled in when the answer leaves.
pub fn revision_header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}

/// As etcd tells it: before the first compaction less than any revision.
pub fn compact_revision(compacted: i64) -> i64 {
    if compacted == 0 { -1 } else { compacted }
}

pub fn key_value(kv: &mvcc::KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value.clone(),
        lease: kv.lease,
    }
}

pub fn key_value_from_wire(kv: mvccpb::KeyValue) -> mvcc::KeyValue {
    mvcc::KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub fn event(event: &mvcc::Event, prev_kv: bool) -> mvccpb::Event {
    let kind = if event.is_delete() { mvccpb::event::EventType::Delete } else { mvccpb::event::EventType::Put };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value(&event.kv)),
        prev_kv: event.prev.as_deref().filter(|_| prev_kv).map(key_value),
    }
}

pub fn range(r: pb::RangeRequest) -> Result<Range, Refusal> {
    let order = match SortOrder::try_from(r.sort_order).map_err(|_| Refusal::InvalidSortOption)? {
        SortOrder::None => Order::None,
        SortOrder::Ascend => Order::Ascend,
        SortOrder::Descend => Order::Descend,
    };
    let target = match SortTarget::try_from(r.sort_target).map_err(|_| Refusal::InvalidSortOption)? {
        SortTarget::Key => Target::Key,
        SortTarget::Version => Target::Version,
        SortTarget::Create => Target::Create,
        SortTarget::Mod => Target::Mod,
        SortTarget::Value => Target::Value,
    };
    Ok(Range {
        keys: KeyRange::from_wire(r.key, r.range_end),
        limit: usize::try_from(r.limit).unwrap_or(0),
        revision: r.revision,
        order,
        target,
        bounds: mvcc::Bounds {
            min_mod: r.min_mod_revision,
            max_mod: r.max_mod_revision,
            min_create: r.min_create_revision,
            max_create: r.max_create_revision,
        },
        keys_only: r.keys_only,
        count_only: r.count_only,
    })
}

pub fn range_response(result: &mvcc::RangeResult) -> pb::RangeResponse {
    let kv = |kv: &Arc<mvcc::KeyValue>| {
        let mut kv = key_value(kv);
        if result.keys_only {
            kv.value.clear();
        }
        kv
    };
    pb::RangeResponse {
        header: revision_header(result.revision),
        kvs: result.kvs.iter().map(kv).collect(),
        more: result.more,
        count: i64::try_from(result.count).expect("memory holds fewer keys"),
    }
}

pub fn put(r: pb::PutRequest) -> Put {
    Put {
        key: r.key,
        value: r.value,
        lease: r.lease,
        prev_kv: r.prev_kv,
        ignore_value: r.ignore_value,
        ignore_lease: r.ignore_lease,
    }
}

pub fn put_response(result: &mvcc::PutResult) -> pb::PutResponse {
    pb::PutResponse { header: revision_header(result.revision), prev_kv: result.prev_kv.as_deref().map(key_value) }
}

pub fn delete(r: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { keys: KeyRange::from_wire(r.key, r.range_end), prev_kv: r.prev_kv }
}

pub fn delete_response(result: &mvcc::DeleteResult) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: revision_header(result.revision),
        deleted: i64::try_from(result.deleted).expect("memory holds fewer keys"),
        prev_kvs: result.prev_kvs.iter().map(|kv| key_value(kv)).collect(),
    }
}

/// None if it holds whatever is there. What etcd does not know how to compare holds for it, but for the value of a key that
/// is not there; and what it does not know to look at is equal.
fn compare(c: pb::Compare) -> Option<Compare> {
    match (CompareResult::try_from(c.result), CompareTarget::try_from(c.target)) {
        (Err(_), Ok(CompareTarget::Value)) => {
            let keys = KeyRange::from_wire(c.key, c.range_end);
            Some(Compare { keys, relation: Relation::Greater, value: Value::Create(0) })
        }
        (Err(_), _) | (Ok(CompareResult::Equal), Err(_)) => None,
        (Ok(_), _) => Some(known_compare(c)),
    }
}

fn known_compare(c: pb::Compare) -> Compare {
    if CompareTarget::try_from(c.target).is_err() {
        // Only equality is left through, which is no key's.
        let value = Value::Version(0);
        return Compare { keys: KeyRange::from_wire(c.key, c.range_end), relation: Relation::Less, value };
    }
    let relation = match c.result() {
        CompareResult::Equal => Relation::Equal,
        CompareResult::NotEqual => Relation::NotEqual,
        CompareResult::Greater => Relation::Greater,
        CompareResult::Less => Relation::Less,
    };
    // A target without its value, or with another's, compares with zero.
    let value = match (c.target(), c.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(v))) => Value::Version(v),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(v))) => Value::Create(v),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(v))) => Value::Mod(v),
        (CompareTarget::Lease, Some(TargetUnion::Lease(v))) => Value::Lease(v),
        (CompareTarget::Value, Some(TargetUnion::Value(v))) => Value::Value(v),
        (CompareTarget::Version, _) => Value::Version(0),
        (CompareTarget::Create, _) => Value::Create(0),
        (CompareTarget::Mod, _) => Value::Mod(0),
        (CompareTarget::Lease, _) => Value::Lease(0),
        (CompareTarget::Value, _) => Value::Value(bytes::Bytes::new()),
    };
    Compare { keys: KeyRange::from_wire(c.key, c.range_end), relation, value }
}

pub fn txn(r: pb::TxnRequest) -> Result<Txn, Refusal> {
    let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().map(op).collect::<Result<Vec<_>, _>>();
    Ok(Txn {
        compare: r.compare.into_iter().filter_map(compare).collect(),
        success: ops(r.success)?,
        failure: ops(r.failure)?,
    })
}

fn op(op: pb::RequestOp) -> Result<Op, Refusal> {
    use pb::request_op::Request;
    Ok(match op.request.ok_or(Refusal::KeyNotFound)? {
        Request::RequestRange(r) => Op::Range(range(r)?),
        Request::RequestPut(r) => Op::Put(put(r)),
        Request::RequestDeleteRange(r) => Op::Delete(delete(r)),
        Request::RequestTxn(r) => Op::Txn(txn(r)?),
    })
}

pub fn txn_response(result: &mvcc::TxnResult) -> pb::TxnResponse {
    pb::TxnResponse { header: revision_header(result.revision), ..nested_response(result) }
}

/// As etcd leaves it: without a revision.
fn nested_response(result: &mvcc::TxnResult) -> pb::TxnResponse {
    use pb::response_op::Response;
    let response = |result: &OpResult| {
        let response = match result {
            OpResult::Range(r) => Response::ResponseRange(range_response(r)),
            OpResult::Put(r) => Response::ResponsePut(put_response(r)),
            OpResult::Delete(r) => Response::ResponseDeleteRange(delete_response(r)),
            OpResult::Txn(r) => Response::ResponseTxn(nested_response(r)),
        };
        pb::ResponseOp { response: Some(response) }
    };
    pb::TxnResponse {
        header: revision_header(0),
        succeeded: result.succeeded,
        responses: result.results.iter().map(response).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a newer client may ask that this store does not know.
    #[test]
    fn a_target_that_is_not_known_is_equal() {
        for (result, holds) in [(0, true), (1, false), (2, false), (3, false), (9, true)] {
            let compare = pb::Compare { target: 9, result, key: "k".into(), ..pb::Compare::default() };
            let request = pb::TxnRequest { compare: vec![compare], ..pb::TxnRequest::default() };
            let txn = txn(request).expect("valid");
            let answer = mvcc::Store::default().txn(txn).expect("applied");
            assert_eq!(answer.succeeded, holds, "result {result}");
        }
    }

    #[test]
    fn a_result_that_is_not_known_holds_but_for_the_value_of_no_key() {
        for (target, key, holds) in [(0, "k", true), (3, "k", true), (3, "absent", false), (0, "absent", true)] {
            let compare = pb::Compare { target, result: 9, key: key.into(), ..pb::Compare::default() };
            let mut store = mvcc::Store::default();
            let put = pb::PutRequest { key: "k".into(), ..pb::PutRequest::default() };
            store.put(super::put(put)).expect("applied");
            let request = pb::TxnRequest { compare: vec![compare], ..pb::TxnRequest::default() };
            let answer = store.txn(txn(request).expect("valid")).expect("applied");
            assert_eq!(answer.succeeded, holds, "target {target} of {key}");
        }
    }
}
