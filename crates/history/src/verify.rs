//! What must hold at one revision, once it is known what wrote it: the answers that show this
//! revision, the leases, and every watch.

use crate::explain;
use crate::history::{History, Writer};
use crate::index::Index;
use crate::kv::{Event, KeyValue, Text};
use crate::operation::{Answer, Request};
use crate::state::State;
use crate::violation::{Kind, Violation};
use crate::watch::Coverage;

/// One revision, placed.
#[derive(Debug, Clone)]
pub struct Placed {
    pub revision: i64,
    pub writer: Writer,
    /// What the model answers to the writer.
    pub answer: Answer,
    pub changes: Vec<Event>,
}

/// Everything that must hold at the newest revision of `log`, of which `state` is the result.
pub fn verify(index: &Index<'_>, state: &mut State, log: &[Placed]) -> Vec<Violation> {
    let Some(placed) = log.last() else { return looks(index, state, log) };
    let mut violations = Vec::new();
    violations.extend(writer(index, placed));
    violations.extend(attachments(index, log, placed));
    violations.extend(revocations(index, state));
    violations.extend(looks(index, state, log));
    violations.extend(watches(index, placed.revision, placed.writer, &placed.changes));
    violations
}

/// The writer was answered what the model answers, and could write then.
fn writer(index: &Index<'_>, placed: &Placed) -> Option<Violation> {
    let history = index.history;
    match placed.writer {
        Writer::Answered(n) if placed.changes.is_empty() => {
            let text = format!("{} says that it made this revision, but there it changes nothing.", history.name(n));
            Some(Violation { kind: Kind::WrongAnswer, text })
        }
        Writer::Answered(n) => {
            let (_, told) = history.operations[n].answered()?;
            (*told != placed.answer).then(|| explain::wrong_answer(history, n, told, &placed.answer))
        }
        Writer::Expired(lease) => {
            let renewed = index.leases.outlasting(history, &index.timeline, lease, placed.revision)?;
            let (revision, renewed) = (placed.revision, history.name(renewed));
            let text = format!("Lease {lease} ended at revision {revision}, before the time that {renewed} gave it.");
            Some(Violation { kind: Kind::LeaseTooShort, text })
        }
        Writer::Unanswered(_) | Writer::Nobody => None,
    }
}

/// A key may only be attached to a lease that is there.
fn attachments(index: &Index<'_>, log: &[Placed], placed: &Placed) -> Vec<Violation> {
    let history = index.history;
    let mut violations = Vec::new();
    for kv in placed.changes.iter().map(|change| &change.kv).filter(|kv| kv.lease != 0) {
        let why = index.leases.refuse(history, &index.timeline, kv.lease, placed.revision);
        let why = why.or_else(|| ended_unanswered(history, log, kv.lease));
        if let Some(why) = why {
            let who = history.writer_name(placed.writer);
            let text = format!("{kv} was attached by {who} to a lease that {why}.");
            violations.push(Violation { kind: Kind::LeaseBroken, text });
        }
    }
    violations
}

fn ended_unanswered(history: &History, log: &[Placed], lease: i64) -> Option<String> {
    let granted_again =
        |n: usize| matches!(history.operations[n].request, Request::LeaseGrant { id, .. } if id == lease);
    let ended = log.iter().find(|placed| match placed.writer {
        Writer::Expired(id) => id == lease,
        Writer::Unanswered(n) => matches!(history.operations[n].request, Request::LeaseRevoke { id } if id == lease),
        Writer::Answered(_) | Writer::Nobody => false,
    })?;
    if (0..history.operations.len()).filter(|n| granted_again(*n)).count() > 1 {
        return None;
    }
    Some(format!("had ended at revision {}, by {}", ended.revision, history.writer_name(ended.writer)))
}

/// A key does not outlive its lease.
fn revocations(index: &Index<'_>, state: &State) -> Vec<Violation> {
    let mut violations = Vec::new();
    for &n in Index::at(&index.revocations, state.revision) {
        let Request::LeaseRevoke { id } = index.history.operations[n].request else { continue };
        if let Some(kv) = state.attached(id) {
            let text = format!("{kv} is still there after {}.", index.history.name(n));
            violations.push(Violation { kind: Kind::LeaseBroken, text });
        }
    }
    violations
}

/// Every answer that shows this revision shows this state.
pub fn looks(index: &Index<'_>, state: &mut State, log: &[Placed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for &n in Index::at(&index.looks, state.revision) {
        let operation = &index.history.operations[n];
        let Some((_, told)) = operation.answered() else { continue };
        let (expected, changes) = state.apply(&operation.request);
        state.undo(&changes);
        if *told != expected {
            violations.push(explain::wrong_look(index.history, log, n, told, &expected, state.revision));
        }
    }
    violations
}

/// Every watch of these changes got them, and got nothing else for this revision.
pub fn watches(index: &Index<'_>, revision: i64, writer: Writer, changes: &[Event]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (n, coverage) in index.coverages.iter().enumerate() {
        let got = coverage.at(revision);
        if got.is_empty() && !coverage.covers(revision) {
            continue;
        }
        let wanted: Vec<&Event> = changes.iter().filter(|change| coverage.watch.wants(change)).collect();
        if matches(index, coverage, &wanted, got) {
            continue;
        }
        let found = difference(index, coverage, &wanted, got);
        let (name, who) = (index.history.watch_name(n), index.history.writer_name(writer));
        let sentence = |what| format!("{name} {what}; revision {revision} was written by {who}.");
        violations.extend(found.into_iter().map(|(kind, what)| Violation { kind, text: sentence(what) }));
    }
    violations
}

/// The order within a revision is the server's affair; usually it is the same.
fn matches(index: &Index<'_>, coverage: &Coverage<'_>, wanted: &[&Event], got: &[&Event]) -> bool {
    let same = |(wanted, got): (&&Event, &&Event)| faithful(index, coverage, wanted, got);
    wanted.len() == got.len() && wanted.iter().zip(got).all(same)
}

fn difference(index: &Index<'_>, coverage: &Coverage<'_>, wanted: &[&Event], got: &[&Event]) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    for event in wanted {
        match got.iter().find(|other| other.kv.key == event.kv.key) {
            Some(other) if faithful(index, coverage, event, other) => {}
            Some(other) => found.push((Kind::WrongEvent, wrong(event, other))),
            None if coverage.covers(event.kv.mod_revision) => {
                let through = coverage.through;
                found.push((Kind::Missing, format!("was not sent {}, but what came up to @{through}", event.kv)));
            }
            None => {}
        }
    }
    // What it did not want at all was told when it came.
    let wanted_by_nature = |event: &&&Event| coverage.watch.wants(event) && event.kv.mod_revision >= coverage.from;
    for event in got.iter().filter(wanted_by_nature) {
        if !wanted.iter().any(|other| other.kv.key == event.kv.key) {
            found.push((Kind::WrongEvent, format!("was sent {}, which did not happen", event.kv)));
        }
    }
    found
}

fn wrong(event: &Event, got: &Event) -> String {
    if event.kv != got.kv {
        return format!("was sent {}, where {} happened", got.kv, event.kv);
    }
    let shown = |kv: &Option<KeyValue>| kv.as_ref().map_or("nothing".to_owned(), KeyValue::to_string);
    let key = Text(&event.kv.key);
    format!("was sent {} as the version of {key} before, which was {}", shown(&got.prev_kv), shown(&event.prev_kv))
}

/// Whether `got` tells of this event as the watch had asked. What a compaction took away can
/// no longer be shown as a previous version.
fn faithful(index: &Index<'_>, coverage: &Coverage<'_>, event: &Event, got: &Event) -> bool {
    let gone = got.prev_kv.is_none() && index.may_be_compacted(event.kv.mod_revision);
    got.kv == event.kv && (!coverage.watch.prev_kv || gone || got.prev_kv == event.prev_kv)
}
