//! What one pod's worker remembers between plans.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::backoff::Backoff;
use crate::plan::{Reason, Start};
use crate::runtime::PodRuntime;

/// The pause after a failure with no back-off of its own; sources that change wake the worker sooner.
const RETRY: Duration = Duration::from_secs(5);

/// Lost at a restart, at no harm but a shorter back-off.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub crashes: Backoff,
    pub pulls: Backoff,
    /// The last failure to start each container, until it is started.
    pub failures: BTreeMap<String, Reason>,
    /// Containers a kill is under way for, by id.
    pub killing: BTreeSet<String>,
    /// A sandbox or containers are being started.
    pub busy: bool,
    /// The containers whose turn has come in the job under way: their back-off is over. One that runs already is in
    /// its postStart hook, and counts as running when that is through.
    pub launching: BTreeSet<String>,
    /// No job before this instant: the last one failed as a whole (volumes, network).
    pub retry_at: Option<Timestamp>,
    /// Containers that ended because their sandbox was lost, by id, and what the back-off of the next instance is
    /// counted from: their end is no crash, nor is an exit code of 0 a success.
    pub displaced: BTreeMap<String, Option<Timestamp>>,
    /// Sandboxes that were stopped, which takes their network down: one may have lost its process and nothing else.
    pub stopped: BTreeSet<String>,
}

impl Memory {
    /// Notes that `start` is being carried out: its next crash waits longer.
    pub fn record_start(&mut self, start: &Start, now: Timestamp) {
        self.launching.insert(start.name.clone());
        if let Some(crashed_at) = start.crashed_at {
            self.crashes.next(&start.name, crashed_at, now);
        }
    }

    pub fn record_started(&mut self, name: &str) {
        self.launching.remove(name);
        self.failures.remove(name);
        self.pulls.reset(name);
    }

    /// A failed pull is tried again after a back-off, any other failure after a short pause.
    pub fn record_failure(&mut self, name: &str, reason: Reason, now: Timestamp) {
        self.launching.remove(name);
        if matches!(reason.reason.as_str(), "ErrImagePull" | "RegistryUnavailable") {
            self.pulls.next(name, now, now);
        } else {
            self.retry_at = Some(now + RETRY);
        }
        self.failures.insert(name.to_owned(), reason);
    }

    /// The job failed before any container's turn came.
    pub fn record_job_failure(&mut self, now: Timestamp) {
        self.retry_at = Some(now + RETRY);
    }

    /// Notes what a plan found displaced, and forgets what the runtime has forgotten.
    pub fn record_displaced(&mut self, displaced: BTreeMap<String, Option<Timestamp>>, runtime: &PodRuntime) {
        self.displaced.retain(|id, _| runtime.containers.iter().any(|c| c.id == *id));
        self.stopped.retain(|id| runtime.sandboxes.iter().any(|s| s.id == *id));
        self.displaced.extend(displaced);
    }
}
