//! What can be told about a request without looking at the store.

use std::collections::HashSet;

use bytes::Bytes;
use mvcc::KeyRange;

use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::request_op::Request;

/// Nesting deeper than this is refused: decoding goes a hundred messages deep, and the log puts some more around it.
const MAX_TXN_DEPTH: usize = 44;

pub fn range(r: &pb::RangeRequest) -> Result<(), Refusal> {
    if r.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    let known = pb::range_request::SortOrder::try_from(r.sort_order).is_ok()
        && pb::range_request::SortTarget::try_from(r.sort_target).is_ok();
    if known { Ok(()) } else { Err(Refusal::InvalidSortOption) }
}

pub fn put(r: &pb::PutRequest) -> Result<(), Refusal> {
    if r.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if r.ignore_value && !r.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if r.ignore_lease && r.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

pub fn delete(r: &pb::DeleteRangeRequest) -> Result<(), Refusal> {
    if r.key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

pub fn txn(r: &pb::TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    txn_ops(r, max_ops, MAX_TXN_DEPTH)?;
    written(&r.success)?;
    written(&r.failure)?;
    Ok(())
}

/// The bound holds for a transaction with all that it nests: each level takes its longest
/// list off what is left for the next.
fn txn_ops(r: &pb::TxnRequest, max_ops: usize, depth: usize) -> Result<(), Refusal> {
    let longest = r.compare.len().max(r.success.len()).max(r.failure.len());
    let left = max_ops.checked_sub(longest).ok_or(Refusal::TooManyOps)?;
    let depth = depth.checked_sub(1).ok_or(Refusal::TooManyOps)?;
    if r.compare.iter().any(|c| c.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    for op in r.success.iter().chain(&r.failure) {
        match &op.request {
            Some(Request::RequestRange(r)) => range(r)?,
            Some(Request::RequestPut(r)) => put(r)?,
            Some(Request::RequestDeleteRange(r)) => delete(r)?,
            Some(Request::RequestTxn(r)) => txn_ops(r, left, depth)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write.
#[derive(Default)]
struct Written {
    puts: HashSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Written {
    fn deletes(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }
}

/// Refuses a list that could write one key twice, whichever branches its nested
/// transactions take. Two branches of the same transaction may write the same key.
fn written(ops: &[pb::RequestOp]) -> Result<Written, Refusal> {
    let mut all = Written::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(r)) = &op.request {
            match KeyRange::from_wire(r.key.clone(), r.range_end.clone()) {
                // etcd finds no key in it here, so that a transaction may empty the store and fill it again.
                KeyRange::From(_) => {}
                range => all.deletes.push(range),
            }
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(r)) = &op.request {
            nested(&mut all, written(&r.success)?, written(&r.failure)?)?;
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(r)) = &op.request
            && (all.deletes(&r.key) || !all.puts.insert(r.key.clone()))
        {
            return Err(Refusal::DuplicateKey);
        }
    }
    Ok(all)
}

fn nested(all: &mut Written, success: Written, failure: Written) -> Result<(), Refusal> {
    let clashes = |all: &Written, key: &Bytes| all.puts.contains(key) || all.deletes(key);
    let branches = success.puts.union(&failure.puts);
    if branches.clone().any(|key| clashes(all, key)) {
        return Err(Refusal::DuplicateKey);
    }
    all.puts.extend(branches.cloned());
    all.deletes.extend(success.deletes);
    all.deletes.extend(failure.deletes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::kvraft::{Command, command::Op};

    fn put_op(key: &'static str) -> pb::RequestOp {
        let key = Bytes::from(key);
        let request = Some(Request::RequestPut(pb::PutRequest { key, ..Default::default() }));
        pb::RequestOp { request }
    }

    fn delete_op(key: &'static str, end: &'static str) -> pb::RequestOp {
        let (key, range_end) = (Bytes::from(key), Bytes::from(end));
        let r = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
        pb::RequestOp { request: Some(Request::RequestDeleteRange(r)) }
    }

    fn txn_op(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        let r = pb::TxnRequest { compare: Vec::new(), success, failure };
        pb::RequestOp { request: Some(Request::RequestTxn(r)) }
    }

    fn check(success: Vec<pb::RequestOp>, expected: Result<(), Refusal>) {
        let r = pb::TxnRequest { success, ..Default::default() };
        assert_eq!(txn(&r, 3), expected, "{r:?}");
    }

    #[test]
    fn transactions() {
        let duplicate = Err(Refusal::DuplicateKey);
        check(vec![put_op("a"), put_op("b")], Ok(()));
        check(vec![put_op("a"), put_op("a")], duplicate);
        check(vec![put_op("a"), delete_op("a", "")], duplicate);
        check(vec![put_op("b"), delete_op("a", "b")], Ok(()));
        check(vec![put_op("a"), delete_op("a", "b")], duplicate);
        check(vec![delete_op("a", ""), delete_op("a", "c")], Ok(()));
        check(vec![txn_op(vec![put_op("a")], vec![put_op("a")])], Ok(()));
        check(vec![put_op("a"), txn_op(vec![], vec![put_op("a")])], duplicate);
        check(vec![delete_op("a", "c"), txn_op(vec![put_op("b")], vec![])], duplicate);
        check(vec![delete_op("a", "\0"), put_op("b")], Ok(()));
        check(vec![delete_op("a", "\0"), txn_op(vec![put_op("c")], vec![])], Ok(()));
        check(vec![txn_op(vec![delete_op("a", "c")], vec![]), put_op("b")], duplicate);
        check(vec![put_op("")], Err(Refusal::EmptyKey));
        check(vec![put_op("a"), put_op("b"), put_op("c"), put_op("d")], Err(Refusal::TooManyOps));
        let two = || vec![put_op("c"), put_op("d")];
        check(vec![put_op("a"), txn_op(two(), vec![])], Err(Refusal::TooManyOps));
        check(vec![txn_op(two(), vec![])], Ok(()));
    }

    /// What is let in can be read back from the log.
    #[test]
    fn the_deepest_transaction_is_decoded_as_an_entry() {
        let nested = |depth: usize| {
            let op = (1..depth).fold(put_op("a"), |op, _| txn_op(vec![op], vec![]));
            pb::TxnRequest { success: vec![op], ..Default::default() }
        };
        assert_eq!(txn(&nested(MAX_TXN_DEPTH + 1), 1_000), Err(Refusal::TooManyOps));
        let deepest = nested(MAX_TXN_DEPTH);
        assert_eq!(txn(&deepest, 1_000), Ok(()));
        let caller = crate::auth::Caller { user: "ann".to_owned(), revision: 1 };
        let op = crate::auth::Asker::User(caller).sign(Op::Txn(deepest));
        let command = Command { op: Some(op) };
        assert_eq!(Command::decode(&command.encode_to_vec()[..]), Ok(command));
    }
}
