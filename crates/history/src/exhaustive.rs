//! The slow way: tries every order in which the operations can have happened.
//!
//! It needs no revisions to be in order, nor to be there at all: an operation may come next
//! if nobody who has returned before its call is still waiting for his turn, and if the model,
//! at that moment, gives the answer that was recorded. States that were tried before, with
//! the same operations behind them, are not tried again (Wing and Gong's search, with Lowe's
//! memory). The time it takes grows exponentially with concurrency, so it is for short
//! histories, to test [`crate::check()`] against. Watches are not looked at.

use std::collections::{BTreeSet, HashSet};

use crate::history::History;
use crate::operation::{Answer, At, Operation, Outcome, Request};
use crate::state::State;

/// The longest history that can be tried, in steps; a read of a past revision counts twice.
pub const MAX_OPERATIONS: usize = 64;

/// Whether some order explains all answers. None if the history is too long.
pub fn is_linearizable(history: &History) -> Option<bool> {
    let steps: Vec<Step<'_>> = history.operations.iter().flat_map(steps).collect();
    if steps.len() > MAX_OPERATIONS {
        return None;
    }
    let required = steps.iter().enumerate().filter(|(_, step)| step.required).fold(0, |mask, (n, _)| mask | 1 << n);
    let attached = history.start.kvs.values().map(|kv| kv.lease).filter(|lease| *lease != 0);
    let leases = attached.chain(history.start_leases.iter().copied()).collect();
    let world = World { state: history.start.clone(), leases };
    Some(Tries { steps, required, failed: HashSet::new() }.explains(0, &world))
}

#[derive(Debug, Clone, Copy)]
enum What<'a> {
    /// To be carried out; with the revision and the answer to be given, unless unknown.
    Request(&'a Request, Option<(i64, &'a Answer)>),
    /// The store is at this revision.
    Revision(i64),
    /// A lease is there, or not.
    Lease(i64, bool),
    /// What cannot be.
    Never,
}

struct Step<'a> {
    call: u64,
    ret: u64,
    /// Whether it has happened for certain.
    required: bool,
    what: What<'a>,
}

fn steps(operation: &Operation) -> Vec<Step<'_>> {
    let Operation { call, ret, request, outcome, .. } = operation;
    let step = |call, what| Step { call, ret: *ret, required: true, what };
    let (revision, answer) = match outcome {
        Outcome::Answered { revision, answer } => (*revision, answer),
        Outcome::Unknown if operation.may_write() || matches!(request, Request::LeaseGrant { .. }) => {
            return vec![Step { call: *call, ret: u64::MAX, required: false, what: What::Request(request, None) }];
        }
        Outcome::Refused(_) | Outcome::Unknown => return Vec::new(),
    };
    let whole = What::Request(request, Some((revision, answer)));
    match (request, answer) {
        // An old state may be shown at any time.
        (Request::Range(_, At::Serializable), _) => vec![step(0, whole)],
        (Request::Range(_, At::Revision(at)), _) if *at > revision => vec![step(*call, What::Never)],
        (Request::Range(_, At::Revision(at)), _) if *at > 0 => {
            let past = What::Request(request, Some((*at, answer)));
            vec![step(0, past), step(*call, What::Revision(revision))]
        }
        (Request::Compact { .. }, _) => vec![step(*call, What::Revision(revision))],
        (Request::LeaseKeepAlive { id }, Answer::KeepAlive { ttl_seconds }) => {
            vec![step(*call, What::Lease(*id, *ttl_seconds > 0))]
        }
        _ => vec![step(*call, whole)],
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    state: State,
    leases: BTreeSet<i64>,
}

impl World {
    /// The world after a step, if it can be taken here.
    fn after(&self, what: What<'_>) -> Option<World> {
        match what {
            What::Revision(revision) => (revision == self.state.revision).then(|| self.clone()),
            What::Lease(id, there) => (self.leases.contains(&id) == there).then(|| self.clone()),
            What::Never => None,
            What::Request(request, told) => {
                let mut next = self.clone();
                let (answer, changes) = next.state.apply(request);
                let attached = |lease| lease == 0 || self.leases.contains(&lease);
                let right = told.is_none_or(|told| told == (next.state.revision, &answer));
                let leases = match request {
                    Request::LeaseGrant { id, .. } => next.leases.insert(*id),
                    Request::LeaseRevoke { id } => next.leases.remove(id),
                    _ => changes.iter().all(|change| attached(change.kv.lease)),
                };
                (right && leases).then_some(next)
            }
        }
    }

    fn expire(&self, id: i64) -> World {
        let mut next = self.clone();
        next.leases.remove(&id);
        next.state.apply(&Request::LeaseRevoke { id });
        next
    }
}

struct Tries<'a> {
    steps: Vec<Step<'a>>,
    required: u64,
    failed: HashSet<(u64, World)>,
}

impl Tries<'_> {
    /// Whether what is not `done` can go on from this world.
    fn explains(&mut self, done: u64, world: &World) -> bool {
        if done & self.required == self.required {
            return true;
        }
        if self.failed.contains(&(done, world.clone())) {
            return false;
        }
        let open = |n: &usize| done & 1 << n == 0;
        let waiting = (0..self.steps.len()).filter(open).map(|n| &self.steps[n]).filter(|step| step.required);
        let first_return = waiting.map(|step| step.ret).min().unwrap_or(u64::MAX);
        let next: Vec<usize> =
            (0..self.steps.len()).filter(open).filter(|n| self.steps[*n].call <= first_return).collect();
        for n in next {
            let after = world.after(self.steps[n].what);
            if after.is_some_and(|after| self.explains(done | 1 << n, &after)) {
                return true;
            }
        }
        for id in &world.leases {
            if self.explains(done, &world.expire(*id)) {
                return true;
            }
        }
        self.failed.insert((done, world.clone()));
        false
    }
}
