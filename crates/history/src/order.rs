//! Real time against revisions, and the claims on each revision: what can be told without
//! knowing any state.

use crate::history::History;
use crate::index::Index;
use crate::operation::{At, Operation, Request};
use crate::violation::{Kind, Violation};

pub fn check(index: &Index<'_>) -> Vec<Violation> {
    let history = index.history;
    let mut violations = duplicates(index);
    for (n, operation) in history.operations.iter().enumerate() {
        let Some((revision, _)) = operation.answered() else { continue };
        violations.extend(real_time(index, n, operation, revision));
        if let Request::Range(_, At::Revision(at)) = operation.request {
            violations.extend(past_read(history, n, at, revision));
        }
    }
    violations
}

fn duplicates(index: &Index<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (revision, claims) in &index.claims {
        let [first, others @ ..] = &claims[..] else { continue };
        for other in others {
            let (first, other) = (index.history.name(*first), index.history.name(*other));
            let text = format!("Revision {revision} was given to {first} and to {other}.");
            violations.push(Violation { kind: Kind::DuplicateRevision, text });
        }
    }
    violations
}

/// What returned before an operation was called happened before it: a write's revision is
/// above everything returned before its call, a linearizable read's not below.
fn real_time(index: &Index<'_>, n: usize, operation: &Operation, revision: i64) -> Option<Violation> {
    let history = index.history;
    let writes = index.claims.get(&revision).is_some_and(|claims| claims.contains(&n));
    if revision < history.start.revision + i64::from(writes) {
        let start = history.start.revision;
        let text = format!("{} is older than the start of the history at revision {start}.", history.name(n));
        return Some(Violation { kind: Kind::RevisionBack, text });
    }
    let seen = index.timeline.newest_before(operation.call)?;
    let back = if writes { revision <= seen.revision } else { revision < seen.revision };
    if !back || !operation.is_linearizable() {
        return None;
    }
    let kind = if writes { Kind::RevisionBack } else { Kind::StaleRead };
    let (name, known) = (history.name(n), history.source_name(seen.source));
    let text = format!(
        "{name} was answered at revision {revision}, but revision {} had been seen before its call, by {known}.",
        seen.revision
    );
    Some(Violation { kind, text })
}

fn past_read(history: &History, n: usize, at: i64, revision: i64) -> Option<Violation> {
    let name = history.name(n);
    if at > revision {
        let text = format!("{name} reads revision {at}, which did not exist yet at revision {revision}.");
        return Some(Violation { kind: Kind::PhantomRead, text });
    }
    let call = history.operations[n].call;
    let compacted = history.operations.iter().position(|other| {
        let done = other.answered().is_some() && other.ret < call;
        done && matches!(other.request, Request::Compact { revision } if revision > at)
    })?;
    let text = format!("{name} was answered, although {} had returned before its call.", history.name(compacted));
    Some(Violation { kind: Kind::CompactedRead, text })
}
