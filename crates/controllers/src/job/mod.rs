//! Job: runs pods until enough of them succeeded.
//!
//! Every pod carries a finalizer until it is counted, so that none is lost and none counted twice. Counting takes
//! three durable steps: the pod's uid enters `status.uncountedTerminatedPods`; the finalizer goes; the uid leaves the
//! list and the counter grows, in one write. A crash between any two of them repeats a step that changes nothing.
//! The terminal condition is written only after the last pod is counted and gone.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::claim::claim;
use crate::meta::Meta;
use crate::plan::{Op, Plan};
use crate::{pods, selector};

mod count;
mod finish;
pub mod indexes;
mod manage;
#[cfg(test)]
mod tests;

pub const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

pub struct Observed<'a> {
    pub job: &'a Job,
    /// Pods it owns and pods of its namespace nobody owns.
    pub pods: &'a [Arc<Pod>],
}

struct View<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    pods: Vec<Arc<Pod>>,
    /// The status as the plan will leave it.
    status: JobStatus,
    /// Terminated pods whose uids are in `status` but whose counters are not.
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    /// Indexes with a success, counted or not; empty unless the job is indexed.
    succeeded_indexes: BTreeSet<i32>,
    /// Some pod failed that had not been seen failing.
    new_failure: bool,
    now: jiff::Timestamp,
    plan: Plan,
}

pub fn plan(observed: &Observed, now: jiff::Timestamp) -> Plan {
    let (job, Some(spec)) = (observed.job, &observed.job.spec) else { return Plan::default() };
    if spec.managed_by.as_deref().is_some_and(|manager| manager != "kubernetes.io/job-controller") {
        return Plan::default();
    }
    if finished_condition(job).is_some() {
        return plan_orphans(observed.pods, |pod| pod.controlled_by(job.uid()));
    }
    let claimed = claim(job, observed.pods, |labels| {
        spec.selector.as_ref().is_some_and(|wanted| !selector::is_empty(wanted) && selector::matches(wanted, labels))
    });
    let mut view = View::new(job, spec, claimed.mine, now);
    view.plan.ops.extend(claimed.ops);
    view.start();
    view.count_settled();
    view.collect_terminated();
    view.decide();
    view.write();
    view.plan
}

/// Pods whose job is gone or done keep nobody waiting: their finalizers go.
pub fn plan_orphans(pods: &[Arc<Pod>], orphaned: impl Fn(&Pod) -> bool) -> Plan {
    let held = pods.iter().filter(|pod| pod.has_finalizer(TRACKING_FINALIZER) && orphaned(pod));
    Plan { ops: held.map(|pod| untrack(pod)).collect(), ..Plan::default() }
}

fn untrack(pod: &Pod) -> Op {
    let finalizers = pod.meta().finalizers.iter().flatten();
    let left: Vec<String> = finalizers.filter(|finalizer| *finalizer != TRACKING_FINALIZER).cloned().collect();
    Op::set_finalizers(pod, &left)
}

pub fn finished_condition(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
}

impl<'a> View<'a> {
    fn new(job: &'a Job, spec: &'a JobSpec, pods: Vec<Arc<Pod>>, now: jiff::Timestamp) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let succeeded_indexes = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
        Self {
            job,
            spec,
            pods,
            uncounted_succeeded: uncounted.succeeded.into_iter().flatten().collect(),
            uncounted_failed: uncounted.failed.into_iter().flatten().collect(),
            succeeded_indexes,
            new_failure: false,
            status,
            now,
            plan: Plan::default(),
        }
    }

    fn indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn completions(&self) -> Option<i32> {
        self.spec.completions
    }

    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pods::is_active(pod))
    }

    fn terminating(&self) -> i32 {
        size(self.pods.iter().filter(|pod| pods::is_terminating(pod)).count())
    }

    /// Counted and about to be.
    fn succeeded(&self) -> i32 {
        if self.indexed() {
            return size(self.succeeded_indexes.len());
        }
        self.status.succeeded.unwrap_or_default() + size(self.uncounted_succeeded.len())
    }

    fn failed(&self) -> i32 {
        self.status.failed.unwrap_or_default() + size(self.uncounted_failed.len())
    }

    fn uncounted(&self) -> HashSet<&str> {
        self.uncounted_succeeded.iter().chain(&self.uncounted_failed).map(String::as_str).collect()
    }

    fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
    }
}

fn size(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
