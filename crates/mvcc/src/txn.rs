//! Transactions: compares decide between two lists of operations, which may nest.
//!
//! All compares, those of nested transactions too, look at the state before the transaction;
//! reads inside it see what it has written so far. What could fail is checked along the
//! chosen path before the first change, so that a transaction applies whole or not at all.
//!
//! # Worked example
//!
//! `a` was put at revision 2, with the value 1. A transaction asks for version(a) = 1, and then does
//!
//! ```text
//! put a 2                                sub revision 0
//! txn  if value(a) = 1 then put b 3      sub revision 1: the compare sees the 1 that was before all
//! get a                                  finds 2, which this transaction has put
//! delete a                               sub revision 2
//! ```
//!
//! All of it happens at main revision 3, in this order: a watcher is told of three events at 3, a read at 2 still finds
//! `a` = 1, one at 3 finds `b` alone. Were the lease of the nested put unknown, nothing at all would have happened.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::Error;
use crate::kv::{KeyRange, KeyValue};
use crate::range::{Range, RangeResult};
use crate::store::{DeleteRange, DeleteResult, Put, PutResult, Store, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Greater,
    Less,
}

impl Relation {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Greater => order.is_gt(),
            Relation::Less => order.is_lt(),
        }
    }
}

/// What of a key is compared, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Version(i64),
    Create(i64),
    Mod(i64),
    Lease(i64),
    Value(Bytes),
}

/// Holds if it holds for every key of the range; an absent key compares as all zeros, except
/// that no comparison of its value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub keys: KeyRange,
    pub relation: Relation,
    pub value: Value,
}

impl Compare {
    fn holds(&self, store: &Store) -> bool {
        let mut found = store.current(&self.keys).peekable();
        if found.peek().is_none() {
            return match &self.value {
                Value::Value(_) => false,
                _ => self.holds_for(&KeyValue::default()),
            };
        }
        found.all(|kv| self.holds_for(kv))
    }

    fn holds_for(&self, kv: &KeyValue) -> bool {
        let order = match &self.value {
            Value::Version(v) => kv.version.cmp(v),
            Value::Create(v) => kv.create_revision.cmp(v),
            Value::Mod(v) => kv.mod_revision.cmp(v),
            Value::Lease(v) => kv.lease.cmp(v),
            Value::Value(v) => kv.value.cmp(v),
        };
        self.relation.holds(order)
    }
}

#[derive(Debug, Clone)]
pub enum Op {
    Range(Range),
    Put(Put),
    Delete(DeleteRange),
    Txn(Txn),
}

#[derive(Debug, Clone, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    Range(RangeResult),
    Put(PutResult),
    Delete(DeleteResult),
    Txn(TxnResult),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnResult {
    pub succeeded: bool,
    pub results: Vec<OpResult>,
    pub revision: i64,
}

impl Txn {
    /// Whether no branch, taken or not, could write.
    pub fn is_read_only(&self) -> bool {
        let reads = |op: &Op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::Delete(_) => false,
            Op::Txn(txn) => txn.is_read_only(),
        };
        self.success.iter().all(reads) && self.failure.iter().all(reads)
    }
}

/// A transaction with its branches chosen.
struct Chosen {
    succeeded: bool,
    ops: Vec<ChosenOp>,
}

enum ChosenOp {
    Range(Range),
    Put(Put),
    Delete(DeleteRange),
    Txn(Chosen),
}

impl Chosen {
    /// Evaluates every compare against the state as it is now.
    fn choose(txn: Txn, store: &Store) -> Chosen {
        let succeeded = txn.compare.iter().all(|c| c.holds(store));
        let ops = if succeeded { txn.success } else { txn.failure };
        let choose = |op| match op {
            Op::Range(range) => ChosenOp::Range(range),
            Op::Put(put) => ChosenOp::Put(put),
            Op::Delete(delete) => ChosenOp::Delete(delete),
            Op::Txn(txn) => ChosenOp::Txn(Chosen::choose(txn, store)),
        };
        Chosen { succeeded, ops: ops.into_iter().map(choose).collect() }
    }

    /// Fails if any operation would: of all puts first, of any range then, as etcd has it.
    fn check(&self, store: &Store) -> Result<(), Error> {
        self.each(&mut |op| if let ChosenOp::Put(put) = op { store.check_txn_put(put) } else { Ok(()) })?;
        self.each(&mut |op| match op {
            ChosenOp::Range(range) => store.check_txn_revision(range.revision),
            _ => Ok(()),
        })
    }

    fn each(&self, check: &mut impl FnMut(&ChosenOp) -> Result<(), Error>) -> Result<(), Error> {
        self.ops.iter().try_for_each(|op| match op {
            ChosenOp::Txn(txn) => txn.each(check),
            op => check(op),
        })
    }

    fn execute(self, write: &mut Write<'_>) -> TxnResult {
        let execute = |op| match op {
            ChosenOp::Range(range) => OpResult::Range(write.range(&range)),
            ChosenOp::Put(put) => OpResult::Put(write.put(put)),
            ChosenOp::Delete(delete) => OpResult::Delete(write.delete_range(&delete)),
            ChosenOp::Txn(txn) => OpResult::Txn(txn.execute(write)),
        };
        let results = self.ops.into_iter().map(execute).collect();
        TxnResult { succeeded: self.succeeded, results, revision: write.visible_revision() }
    }

    fn read(self, store: &Store) -> Result<TxnResult, Error> {
        let read = |op| match op {
            ChosenOp::Range(range) => store.range(&range).map(OpResult::Range),
            ChosenOp::Txn(txn) => txn.read(store).map(OpResult::Txn),
            ChosenOp::Put(_) | ChosenOp::Delete(_) => {
                unreachable!("the caller made sure that the transaction only reads")
            }
        };
        Ok(TxnResult {
            succeeded: self.succeeded,
            results: self.ops.into_iter().map(read).collect::<Result<_, _>>()?,
            revision: store.revision(),
        })
    }
}

impl Store {
    pub fn txn(&mut self, txn: Txn) -> Result<TxnResult, Error> {
        let chosen = Chosen::choose(txn, self);
        chosen.check(self)?;
        let mut write = self.write();
        let result = chosen.execute(&mut write);
        write.commit();
        Ok(result)
    }

    /// A transaction that only reads; see [`Txn::is_read_only`].
    pub fn read_txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        assert!(txn.is_read_only(), "a reader may not write");
        let chosen = Chosen::choose(txn, self);
        chosen.check(self)?;
        chosen.read(self)
    }
}
