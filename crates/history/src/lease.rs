//! Leases: when one can have existed.
//!
//! A lease exists from its grant to its end, and three things end it: a revocation that was
//! answered, one that was not, and time. The first is known; the other two are found by the
//! deletions they cause, and must fit what came after.
//!
//! The rules hold for leases granted once. The few ids that were granted again, after their
//! lease had ended, are not judged.

use std::collections::{HashMap, HashSet};

use crate::history::History;
use crate::operation::{Answer, Operation, Request, TxnOp};
use crate::timeline::Timeline;
use crate::violation::{Kind, Violation};

/// A lease's clock is the server's, which may run faster than the recorder's by this part.
const CLOCK_TOLERANCE: u64 = 100;

/// What was told of one lease.
#[derive(Debug, Default)]
struct Lease {
    /// Operations that granted it, answered or not.
    grants: Vec<usize>,
    /// Revocations that were answered.
    revocations: Vec<usize>,
    /// Renewals that found it alive.
    renewals: Vec<usize>,
    /// The last revision at which a write to it was answered, or seen.
    last_used: i64,
}

pub struct Leases {
    start: HashSet<i64>,
    by_id: HashMap<i64, Lease>,
}

impl Leases {
    pub fn of(history: &History) -> Leases {
        let attached = history.start.kvs.values().map(|kv| kv.lease);
        let start = attached.chain(history.start_leases.iter().copied()).collect();
        let mut leases = Leases { start, by_id: HashMap::new() };
        for (n, operation) in history.operations.iter().enumerate() {
            leases.file(n, operation);
        }
        leases
    }

    fn file(&mut self, n: usize, operation: &Operation) {
        let refused = matches!(operation.outcome, crate::Outcome::Refused(_));
        match (&operation.request, operation.answered()) {
            (Request::LeaseGrant { id, .. }, _) if !refused => self.lease(*id).grants.push(n),
            (Request::LeaseRevoke { id }, Some(_)) => self.lease(*id).revocations.push(n),
            (Request::LeaseKeepAlive { id }, Some((_, Answer::KeepAlive { ttl_seconds }))) if *ttl_seconds > 0 => {
                self.lease(*id).renewals.push(n);
            }
            _ => {}
        }
        let Some((revision, answer)) = operation.answered() else { return };
        for lease in attachments(&operation.request, answer) {
            self.used(lease, revision);
        }
        for kv in answer.sightings() {
            self.used(kv.lease, kv.mod_revision);
        }
    }

    fn lease(&mut self, id: i64) -> &mut Lease {
        self.by_id.entry(id).or_default()
    }

    fn used(&mut self, id: i64, revision: i64) {
        let lease = self.lease(id);
        lease.last_used = lease.last_used.max(revision);
    }

    /// The lease, if the rules hold for it.
    fn judged(&self, id: i64) -> Option<&Lease> {
        let lease = self.by_id.get(&id)?;
        let begins = lease.grants.len() + usize::from(self.start.contains(&id));
        (begins <= 1).then_some(lease)
    }

    /// Why a key cannot have been attached to a lease at a revision, or nothing.
    pub fn refuse(&self, history: &History, timeline: &Timeline, id: i64, revision: i64) -> Option<String> {
        let none = Lease::default();
        let lease = if self.by_id.contains_key(&id) { self.judged(id)? } else { &none };
        if !self.start.contains(&id) {
            let Some(&grant) = lease.grants.first() else {
                return Some("nobody was granted".to_owned());
            };
            if revision <= granted_after(history, timeline, grant) {
                return Some(format!("was granted only later, by {}", history.name(grant)));
            }
        }
        let ended = lease.revocations.iter().find(|n| answered_at(history, **n) < revision)?;
        Some(format!("had ended with {}", history.name(*ended)))
    }

    /// Whether a lease may have ended at a revision without an answered revocation: nobody
    /// may have found it alive after that.
    pub fn may_have_ended(&self, history: &History, timeline: &Timeline, id: i64, revision: i64) -> bool {
        let Some(lease) = self.judged(id) else { return true };
        let revoked = lease.revocations.iter().any(|n| answered_at(history, *n) >= revision);
        let seen = timeline.first_seen(revision).map_or(u64::MAX, |seen| seen.at);
        let renewed = lease.renewals.iter().any(|n| history.operations[*n].call > seen);
        !revoked && !renewed && lease.last_used <= revision
    }

    /// The operation whose TTL had not passed when a lease ran out at a revision.
    pub fn outlasting(&self, history: &History, timeline: &Timeline, id: i64, revision: i64) -> Option<usize> {
        let lease = self.judged(id)?;
        let seen = timeline.first_seen(revision)?.at;
        let begun = lease.grants.iter().filter(|n| history.operations[**n].answered().is_some());
        begun.chain(&lease.renewals).copied().find(|n| {
            let operation = &history.operations[*n];
            let ttl = granted_seconds(operation).saturating_mul(history.ticks_per_second);
            operation.call.saturating_add(ttl - ttl / CLOCK_TOLERANCE) > seen
        })
    }

    /// Grants, renewals and revocations of one lease against each other, by time alone.
    pub fn check(&self, history: &History, timeline: &Timeline) -> Vec<Violation> {
        let mut ids: Vec<i64> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        let mut violations = Vec::new();
        for id in ids {
            let Some(lease) = self.judged(id) else { continue };
            let grant = lease.grants.first();
            if grant.is_none() && !self.start.contains(&id) {
                let found = lease.renewals.iter().chain(&lease.revocations);
                violations
                    .extend(found.map(|n| broken(format!("{} found a lease nobody had granted.", history.name(*n)))));
                continue;
            }
            if let Some(&grant) = grant {
                violations.extend(too_early(history, timeline, lease, grant));
            }
            violations.extend(too_late(history, lease));
        }
        violations
    }
}

/// The revision after which a lease was granted, at the earliest.
fn granted_after(history: &History, timeline: &Timeline, grant: usize) -> i64 {
    let operation = &history.operations[grant];
    match operation.answered() {
        Some((revision, _)) => revision,
        None => timeline.newest_before(operation.call).map_or(0, |seen| seen.revision),
    }
}

fn too_early(history: &History, timeline: &Timeline, lease: &Lease, grant: usize) -> Vec<Violation> {
    let early_answer = |n: &usize| {
        let found = &history.operations[*n];
        let ends = matches!(found.request, Request::LeaseRevoke { .. });
        let older = ends && answered_at(history, *n) < granted_after(history, timeline, grant);
        older || found.ret < history.operations[grant].call
    };
    let early = lease.renewals.iter().chain(&lease.revocations).filter(|n| early_answer(n));
    let sentence = |n| format!("{} found a lease that was granted only by {}.", history.name(n), history.name(grant));
    early.map(|n| broken(sentence(*n))).collect()
}

fn too_late(history: &History, lease: &Lease) -> Vec<Violation> {
    let mut violations = Vec::new();
    let after = |n: usize, end: usize| history.operations[n].call > history.operations[end].ret;
    for &end in &lease.revocations {
        let late = lease.renewals.iter().filter(|n| after(**n, end));
        let sentence = |n| format!("{} found a lease that had ended with {}.", history.name(n), history.name(end));
        violations.extend(late.map(|n| broken(sentence(*n))));
    }
    if let [first, second, ..] = lease.revocations[..] {
        let (first, second) = (history.name(first), history.name(second));
        violations.push(broken(format!("One lease was ended twice, by {first} and by {second}.")));
    }
    violations
}

fn broken(text: String) -> Violation {
    Violation { kind: Kind::LeaseBroken, text }
}

fn answered_at(history: &History, n: usize) -> i64 {
    history.operations[n].answered().map_or(0, |(revision, _)| revision)
}

fn granted_seconds(operation: &Operation) -> u64 {
    let seconds = match (&operation.request, operation.answered()) {
        (Request::LeaseGrant { ttl_seconds, .. }, _) => *ttl_seconds,
        (_, Some((_, Answer::KeepAlive { ttl_seconds }))) => *ttl_seconds,
        _ => 0,
    };
    u64::try_from(seconds).unwrap_or(0)
}

/// The leases that an answered request attached keys to.
fn attachments(request: &Request, answer: &Answer) -> Vec<i64> {
    match (request, answer) {
        (Request::Put(put), _) if put.lease != 0 => vec![put.lease],
        (Request::Txn(txn), Answer::Txn { succeeded, .. }) => {
            let ops = if *succeeded { &txn.success } else { &txn.failure };
            let puts = ops.iter().filter_map(|op| match op {
                TxnOp::Put(put) if put.lease != 0 => Some(put.lease),
                _ => None,
            });
            puts.collect()
        }
        _ => Vec::new(),
    }
}
