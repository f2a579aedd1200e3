//! What clients asked and what they were told.

use std::fmt;

use bytes::Bytes;

use crate::kv::{KeyValue, Keys, Text};

/// Which state a range reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest: linearizable.
    Latest,
    /// What the asked member has; it may be old, it may not be wrong.
    Serializable,
    /// A past revision, asked of an up-to-date member.
    Revision(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub keys: Keys,
    /// 0 is no limit.
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    /// 0 is none.
    pub lease: i64,
    pub prev_kv: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    pub keys: Keys,
    pub prev_kv: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Version(i64),
    Create(i64),
    Mod(i64),
    Lease(i64),
    Value(Bytes),
}

/// A compare of one key. An absent key compares as all zeros, except that no comparison of
/// its value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    pub relation: Relation,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOp {
    Range(Range),
    Put(Put),
    Delete(Delete),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<TxnOp>,
    pub failure: Vec<TxnOp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Range(Range, At),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    Compact {
        revision: i64,
    },
    /// `id` is the one granted; a grant whose id the server chose and nobody heard of is
    /// recorded with id 0.
    LeaseGrant {
        id: i64,
        ttl_seconds: i64,
    },
    LeaseRevoke {
        id: i64,
    },
    LeaseKeepAlive {
        id: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Range(RangeAnswer),
    Put {
        prev_kv: Option<KeyValue>,
    },
    Delete {
        deleted: usize,
        prev_kvs: Vec<KeyValue>,
    },
    Txn {
        succeeded: bool,
        answers: Vec<Answer>,
    },
    /// A TTL of 0 says that the lease is gone.
    KeepAlive {
        ttl_seconds: i64,
    },
    /// There is nothing to say but the revision: grants, revocations, compactions.
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeAnswer {
    pub kvs: Vec<KeyValue>,
    /// Keys in the range, whatever the limit.
    pub count: usize,
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `revision` is the one in the answer's header.
    Answered { revision: i64, answer: Answer },
    /// Refused by the server, in its words: nothing has happened, and never will.
    Refused(String),
    /// No answer came. It may have happened, it may happen yet, or never; but at most once.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub client: u32,
    /// When it was called, in ticks of one clock that all clients share.
    pub call: u64,
    /// When the client heard, or gave up. An operation returned before another was called if
    /// this is less than the other's `call`; equal ticks are concurrent.
    pub ret: u64,
    pub request: Request,
    pub outcome: Outcome,
}

impl Operation {
    pub(crate) fn answered(&self) -> Option<(i64, &Answer)> {
        match &self.outcome {
            Outcome::Answered { revision, answer } => Some((*revision, answer)),
            Outcome::Refused(_) | Outcome::Unknown => None,
        }
    }

    /// Whether it could change keys.
    pub(crate) fn may_write(&self) -> bool {
        match &self.request {
            Request::Put(_) | Request::Delete(_) | Request::LeaseRevoke { .. } => true,
            Request::Txn(txn) => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                ops.any(|op| !matches!(op, TxnOp::Range(_)))
            }
            Request::Range(..)
            | Request::Compact { .. }
            | Request::LeaseGrant { .. }
            | Request::LeaseKeepAlive { .. } => false,
        }
    }

    /// Whether it must not be answered from an older state than anyone had seen before.
    pub(crate) fn is_linearizable(&self) -> bool {
        !matches!(self.request, Request::Range(_, At::Serializable) | Request::LeaseKeepAlive { .. })
    }
}

impl Answer {
    /// Whether it says that keys were changed, so that its revision is its own. A revocation
    /// does not tell.
    pub(crate) fn claims_change(&self) -> bool {
        match self {
            Answer::Put { .. } => true,
            Answer::Delete { deleted, .. } => *deleted > 0,
            Answer::Txn { answers, .. } => answers.iter().any(Answer::claims_change),
            Answer::Range(_) | Answer::KeepAlive { .. } | Answer::Done => false,
        }
    }

    /// Every version of a key that it shows.
    pub(crate) fn sightings(&self) -> Vec<&KeyValue> {
        match self {
            Answer::Range(range) => range.kvs.iter().collect(),
            Answer::Put { prev_kv } => prev_kv.iter().collect(),
            Answer::Delete { prev_kvs, .. } => prev_kvs.iter().collect(),
            Answer::Txn { answers, .. } => answers.iter().flat_map(Answer::sightings).collect(),
            Answer::KeepAlive { .. } | Answer::Done => Vec::new(),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Range(range, At::Latest) => write!(f, "get {}", range.keys),
            Request::Range(range, At::Serializable) => write!(f, "serializable get {}", range.keys),
            Request::Range(range, At::Revision(at)) => write!(f, "get {} @{at}", range.keys),
            Request::Put(put) => write_put(f, put),
            Request::Delete(delete) => write!(f, "delete {}", delete.keys),
            Request::Txn(txn) => write_txn(f, txn),
            Request::Compact { revision } => write!(f, "compact {revision}"),
            Request::LeaseGrant { id, ttl_seconds } => write!(f, "grant lease {id} for {ttl_seconds} s"),
            Request::LeaseRevoke { id } => write!(f, "revoke lease {id}"),
            Request::LeaseKeepAlive { id } => write!(f, "keep lease {id} alive"),
        }
    }
}

fn write_put(f: &mut fmt::Formatter<'_>, put: &Put) -> fmt::Result {
    write!(f, "put {}={}", Text(&put.key), Text(&put.value))?;
    if put.lease != 0 {
        write!(f, " on lease {}", put.lease)?;
    }
    Ok(())
}

fn write_txn(f: &mut fmt::Formatter<'_>, txn: &Txn) -> fmt::Result {
    f.write_str("txn on")?;
    for compare in &txn.compare {
        write!(f, " {}", Text(&compare.key))?;
    }
    for (word, ops) in [(" then", &txn.success), (" else", &txn.failure)] {
        for op in ops {
            f.write_str(word)?;
            match op {
                TxnOp::Range(range) => write!(f, " get {}", range.keys)?,
                TxnOp::Put(put) => {
                    f.write_str(" ")?;
                    write_put(f, put)?;
                }
                TxnOp::Delete(delete) => write!(f, " delete {}", delete.keys)?,
            }
        }
    }
    Ok(())
}
