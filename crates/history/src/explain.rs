//! Sentences for answers that are not the model's.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use crate::history::{History, List};
use crate::kv::{KeyValue, Text};
use crate::operation::{Answer, Outcome, Put, RangeAnswer, Request, TxnOp};
use crate::verify::Placed;
use crate::violation::{Kind, Violation};

pub fn wrong_answer(history: &History, n: usize, told: &Answer, expected: &Answer) -> Violation {
    let text = format!("{} was answered {told}, where {expected} is right.", history.name(n));
    Violation { kind: Kind::WrongAnswer, text }
}

/// An answer shows a state that is not that of its revision.
pub fn wrong_look(
    history: &History,
    log: &[Placed],
    n: usize,
    told: &Answer,
    expected: &Answer,
    revision: i64,
) -> Violation {
    let (Answer::Range(told_range), Answer::Range(expected_range)) = (told, expected) else {
        return wrong_answer(history, n, told, expected);
    };
    wrong_range(history, log, n, told_range, expected_range, revision)
        .unwrap_or_else(|| wrong_answer(history, n, told, expected))
}

/// The first key by which two answers to a range differ.
fn wrong_range(
    history: &History,
    log: &[Placed],
    n: usize,
    told: &RangeAnswer,
    expected: &RangeAnswer,
    revision: i64,
) -> Option<Violation> {
    let keys: BTreeSet<&Bytes> = told.kvs.iter().chain(&expected.kvs).map(|kv| &kv.key).collect();
    let find = |answer: &'_ RangeAnswer, key: &Bytes| answer.kvs.iter().find(|kv| kv.key == *key).cloned();
    let differs = |key: &&Bytes| find(told, key) != find(expected, key);
    let key = keys.into_iter().find(differs)?;
    let (shown, right) = (find(told, key), find(expected, key));
    let (name, key) = (history.name(n), Text(key));
    let (kind, text) = match (shown, right) {
        (Some(shown), _) if !happened(history, log, &shown) => {
            let author = author(history, &shown);
            (Kind::PhantomRead, format!("{name} shows {shown} at revision {revision}, which {author}."))
        }
        (None, Some(right)) => {
            let who = writer(history, log, right.mod_revision);
            (Kind::LostWrite, format!("{name} does not show {right}, written by {who}."))
        }
        (Some(shown), Some(right)) if shown.mod_revision < right.mod_revision => {
            let who = writer(history, log, right.mod_revision);
            (Kind::LostWrite, format!("{name} shows {shown}, not {right}, written by {who}."))
        }
        (Some(shown), Some(right)) => (Kind::WrongAnswer, format!("{name} shows {shown}, where {right} is right.")),
        (Some(shown), None) => return Some(resurrected(history, log, &name, &shown, revision)),
        (None, None) => (Kind::WrongAnswer, format!("{name} is wrong about {key}.")),
    };
    Some(Violation { kind, text })
}

/// A key is shown although it had been deleted.
fn resurrected(history: &History, log: &[Placed], name: &str, shown: &KeyValue, revision: i64) -> Violation {
    let deletes = |placed: &&Placed| placed.changes.iter().any(|c| c.kv.key == shown.key && c.kv.is_tombstone());
    let Some(placed) = log.iter().rev().find(deletes) else {
        let text = format!("{name} shows {shown} at revision {revision}, where the key is not.");
        return Violation { kind: Kind::WrongAnswer, text };
    };
    let ended = match placed.writer {
        crate::Writer::Answered(n) | crate::Writer::Unanswered(n) => {
            matches!(history.operations[n].request, Request::LeaseRevoke { .. })
        }
        crate::Writer::Expired(_) => true,
        crate::Writer::Nobody => false,
    };
    let kind = if ended { Kind::LeaseBroken } else { Kind::LostWrite };
    let (who, at) = (history.writer_name(placed.writer), placed.revision);
    Violation { kind, text: format!("{name} still shows {shown}, deleted at revision {at} by {who}.") }
}

fn happened(history: &History, log: &[Placed], kv: &KeyValue) -> bool {
    if kv.mod_revision <= history.start.revision {
        return history.start.kvs.get(&kv.key).is_none_or(|known| known.mod_revision != kv.mod_revision || known == kv);
    }
    placed(log, kv.mod_revision).is_some_and(|placed| {
        // A version that is told wrongly is one that happened, as long as its value did.
        placed.changes.iter().any(|c| c.kv.key == kv.key && c.kv.value == kv.value)
    })
}

fn placed(log: &[Placed], revision: i64) -> Option<&Placed> {
    log.binary_search_by_key(&revision, |placed| placed.revision).ok().map(|at| &log[at])
}

fn writer(history: &History, log: &[Placed], revision: i64) -> String {
    match placed(log, revision) {
        Some(placed) => history.writer_name(placed.writer),
        None => "whoever came before the recording".to_owned(),
    }
}

/// Who tried to write a version, for a sentence that goes on from "which".
pub fn author(history: &History, kv: &KeyValue) -> String {
    let tried = history.operations.iter().position(|operation| puts(&operation.request, kv));
    let Some(n) = tried else { return "nobody wrote".to_owned() };
    let name = history.name(n);
    match &history.operations[n].outcome {
        Outcome::Refused(words) => format!("{name} had tried to write, but was refused: {words}"),
        Outcome::Answered { .. } => format!("{name} wrote at another revision"),
        Outcome::Unknown => format!("{name} tried to write, but cannot have written then"),
    }
}

fn puts(request: &Request, kv: &KeyValue) -> bool {
    let same = |put: &Put| put.key == kv.key && put.value == kv.value;
    match request {
        Request::Put(put) => same(put),
        Request::Txn(txn) => {
            let mut ops = txn.success.iter().chain(&txn.failure);
            ops.any(|op| matches!(op, TxnOp::Put(put) if same(put)))
        }
        _ => false,
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Range(range) => {
                write!(f, "{} of {}", List(&range.kvs), range.count)?;
                f.write_str(if range.more { " and more" } else { "" })
            }
            Answer::Put { prev_kv: None } => f.write_str("written"),
            Answer::Put { prev_kv: Some(prev) } => write!(f, "written over {prev}"),
            Answer::Delete { deleted, prev_kvs } if prev_kvs.is_empty() => write!(f, "{deleted} deleted"),
            Answer::Delete { deleted, prev_kvs } => write!(f, "{deleted} deleted, {}", List(prev_kvs)),
            Answer::Txn { succeeded, answers } => {
                write!(f, "{} [{}]", if *succeeded { "yes" } else { "no" }, List(answers))
            }
            Answer::KeepAlive { ttl_seconds } => write!(f, "{ttl_seconds} s"),
            Answer::Done => f.write_str("done"),
        }
    }
}
