//! Accounts for every revision, one after the other.
//!
//! A revision that an answered write claims is that write's. A revision nobody claims is a
//! gap: an operation without an outcome filled it, or a lease that ran out. Which one is
//! tried out, in the light of what reads and watches show of it; a choice that later turns
//! out wrong is taken back. Without operations that lack an outcome there is nothing to
//! choose and the search is a single pass.

use std::collections::HashSet;

use crate::explain;
use crate::history::Writer;
use crate::index::Index;
use crate::kv::{Event, KeyValue};
use crate::operation::{Answer, Request};
use crate::state::State;
use crate::verify::{self, Placed};
use crate::violation::{Kind, MAX_VIOLATIONS, Violation};

/// How many revisions are placed, those taken back included, before the search gives up.
pub const MAX_STEPS: usize = 500_000;

/// What the search found.
pub enum Found {
    /// Every revision has its writer and everything holds.
    Explained,
    /// No assignment explains the history; this one came furthest.
    Impossible(Vec<Writer>),
    /// Too many assignments to try them all.
    Undecided,
}

/// A place where there was more than one writer to choose from.
struct Choice {
    /// How long the log was.
    depth: usize,
    /// What is left to be tried, the best last.
    rest: Vec<Writer>,
}

pub struct Search<'a> {
    index: &'a Index<'a>,
    state: State,
    log: Vec<Placed>,
    /// Operations without an outcome that have a place.
    used: HashSet<usize>,
}

impl<'a> Search<'a> {
    pub fn new(index: &'a Index<'a>) -> Search<'a> {
        Search { index, state: index.history.start.clone(), log: Vec::new(), used: HashSet::new() }
    }

    pub fn find(mut self, max_steps: usize) -> Found {
        if !verify::looks(self.index, &mut self.state, &[]).is_empty() {
            return Found::Impossible(Vec::new());
        }
        let mut furthest = Vec::new();
        let mut choices: Vec<Choice> = Vec::new();
        let mut options = self.options();
        for _ in 0..max_steps {
            if self.state.revision >= self.index.last {
                return Found::Explained;
            }
            if let Some(writer) = options.pop() {
                let depth = self.log.len();
                if self.place(writer).is_empty() {
                    if !options.is_empty() {
                        choices.push(Choice { depth, rest: options });
                    }
                    options = self.options();
                    continue;
                }
                self.take_back();
            }
            if options.is_empty() {
                if self.log.len() > furthest.len() {
                    furthest = self.log.iter().map(|placed| placed.writer).collect();
                }
                let Some(choice) = choices.pop() else { return Found::Impossible(furthest) };
                while self.log.len() > choice.depth {
                    self.take_back();
                }
                options = choice.rest;
            }
        }
        Found::Undecided
    }

    /// Goes through the whole history along `path` and beyond, and tells what does not hold.
    pub fn tell(mut self, path: &[Writer]) -> Vec<Violation> {
        let mut violations = verify::looks(self.index, &mut self.state, &[]);
        for writer in path {
            violations.extend(self.place(*writer));
        }
        while self.state.revision < self.index.last && violations.len() < MAX_VIOLATIONS {
            let options = self.options();
            let best = self.least_wrong(&options);
            violations.extend(match best {
                Some(writer) => self.place(writer),
                None => self.unexplained(),
            });
        }
        violations
    }

    /// Who may have made the next revision, the likeliest last.
    fn options(&mut self) -> Vec<Writer> {
        let revision = self.state.revision + 1;
        if revision > self.index.last {
            return Vec::new();
        }
        if let Some(claims) = self.index.claims.get(&revision) {
            return claims.iter().rev().map(|n| Writer::Answered(*n)).collect();
        }
        let mut options = self.gap(revision);
        // A revocation does not tell whether the revision it was answered with is its own.
        for &n in Index::at(&self.index.revocations, revision) {
            if self.index.may_have_made(n, revision) && self.trial(Writer::Answered(n)).is_some() {
                options.push(Writer::Answered(n));
            }
        }
        options
    }

    /// Who may have made a revision nobody claims.
    fn gap(&mut self, revision: i64) -> Vec<Writer> {
        let index = self.index;
        let mut options = Vec::new();
        for lease in self.state.attached_leases() {
            if index.leases.may_have_ended(index.history, &index.timeline, lease, revision) {
                options.push(Writer::Expired(lease));
            }
        }
        let mut tried: Vec<&Request> = Vec::new();
        for &n in index.unanswered.iter().rev() {
            let request = &index.history.operations[n].request;
            // Of two that ask the same it is all one which it was.
            if self.used.contains(&n) || tried.contains(&request) || !self.may_fill(n, revision) {
                continue;
            }
            tried.push(request);
            options.push(Writer::Unanswered(n));
        }
        options.retain(|writer| self.trial(*writer).is_some_and(|changes| fits(index, revision, *writer, &changes)));
        options
    }

    fn may_fill(&self, n: usize, revision: i64) -> bool {
        let index = self.index;
        let may_end = match index.history.operations[n].request {
            Request::LeaseRevoke { id } => index.leases.may_have_ended(index.history, &index.timeline, id, revision),
            _ => true,
        };
        may_end && index.may_have_made(n, revision)
    }

    /// What a writer would change now; nothing if it would take no revision.
    fn trial(&mut self, writer: Writer) -> Option<Vec<Event>> {
        let (_, changes) = self.execute(writer);
        self.state.undo(&changes);
        (!changes.is_empty()).then_some(changes)
    }

    fn execute(&mut self, writer: Writer) -> (Answer, Vec<Event>) {
        match writer {
            Writer::Answered(n) | Writer::Unanswered(n) => self.state.apply(&self.index.history.operations[n].request),
            Writer::Expired(id) => self.state.apply(&Request::LeaseRevoke { id }),
            Writer::Nobody => (Answer::Done, self.state.adopt(Vec::new())),
        }
    }

    /// Gives the next revision to a writer and says what does not hold then.
    fn place(&mut self, writer: Writer) -> Vec<Violation> {
        let revision = self.state.revision + 1;
        let (answer, changes) = self.execute(writer);
        // One that changes nothing is wrong, but the revision is gone in any case.
        self.state.revision = revision;
        if let Writer::Unanswered(n) = writer {
            self.used.insert(n);
        }
        self.log.push(Placed { revision, writer, answer, changes });
        verify::verify(self.index, &mut self.state, &self.log)
    }

    fn take_back(&mut self) {
        let Some(placed) = self.log.pop() else { return };
        if let Writer::Unanswered(n) = placed.writer {
            self.used.remove(&n);
        }
        self.state.undo(&placed.changes);
        self.state.revision = placed.revision - 1;
    }

    fn least_wrong(&mut self, options: &[Writer]) -> Option<Writer> {
        let mut best = None;
        for writer in options.iter().rev() {
            let wrong = self.place(*writer).len();
            self.take_back();
            if best.is_none_or(|(least, _)| wrong < least) {
                best = Some((wrong, *writer));
            }
        }
        best.map(|(_, writer)| writer)
    }

    /// Nobody can have made the next revision. What was seen of it is believed, so that the
    /// rest can be judged.
    fn unexplained(&mut self) -> Vec<Violation> {
        let revision = self.state.revision + 1;
        let known = self.index.next_known(revision);
        if known > revision {
            self.state.revision = known - 1;
            let text = format!("Revisions {revision} to {} were made by nobody.", known - 1);
            return vec![Violation { kind: Kind::UnexplainedRevision, text }];
        }
        let seen = self.evidence(revision);
        let mut text = format!("Revision {revision} was made by nobody");
        if let Some((kv, who)) = seen.first() {
            text += &format!(": {who} shows {kv}, which {}", explain::author(self.index.history, kv));
        }
        let changes = self.state.adopt(seen.into_iter().map(|(kv, _)| kv).collect());
        self.log.push(Placed { revision, writer: Writer::Nobody, answer: Answer::Done, changes });
        let mut violations = vec![Violation { kind: Kind::UnexplainedRevision, text: text + "." }];
        violations.extend(verify::verify(self.index, &mut self.state, &self.log));
        violations
    }

    /// What was seen of a revision, once per key, and by whom.
    fn evidence(&self, revision: i64) -> Vec<(KeyValue, String)> {
        let (index, history) = (self.index, self.index.history);
        let mut evidence: Vec<(KeyValue, String)> = Vec::new();
        let sightings = Index::at(&index.sightings, revision).iter().map(|(kv, n)| ((*kv).clone(), history.name(*n)));
        let watches = index.coverages.iter().enumerate();
        let events = watches.flat_map(|(n, coverage)| coverage.at(revision).iter().map(move |event| (n, event)));
        for (kv, who) in events.map(|(n, event)| (event.kv.clone(), history.watch_name(n))).chain(sightings) {
            if evidence.iter().all(|(known, _)| known.key != kv.key) {
                evidence.push((kv, who));
            }
        }
        evidence
    }
}

/// Whether changes are what reads and watches show of a revision.
fn fits(index: &Index<'_>, revision: i64, writer: Writer, changes: &[Event]) -> bool {
    let seen = Index::at(&index.sightings, revision);
    seen.iter().all(|(kv, _)| changes.iter().any(|change| change.kv == **kv))
        && verify::watches(index, revision, writer, changes).is_empty()
}
