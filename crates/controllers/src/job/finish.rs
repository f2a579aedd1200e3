//! When a job is over, and how it says so.
//!
//! The verdict comes first (`SuccessCriteriaMet`, `FailureTarget`): from then on nothing new starts and what runs is
//! stopped. The terminal condition follows once every pod has ended and is counted.

use k8s_openapi::api::batch::v1::{Job, JobCondition};

use super::View;
use crate::meta::{Meta, after_seconds, nonzero, time};
use crate::plan::{Op, normal, reference, warning};
use crate::pods;

impl View<'_> {
    pub(super) fn start(&mut self) {
        if self.status.start_time.is_none() && !self.suspended() {
            self.status.start_time = Some(time(self.now));
        }
    }

    pub(super) fn decide(&mut self) {
        if self.job.deleting() {
            return;
        }
        if self.condition("SuccessCriteriaMet").is_none() && self.condition("FailureTarget").is_none() {
            self.judge();
        }
        if self.condition("SuccessCriteriaMet").is_some() || self.condition("FailureTarget").is_some() {
            self.stop_all();
            self.finish();
        } else {
            self.note_suspension();
            self.manage();
        }
    }

    fn judge(&mut self) {
        if let Some((reason, message)) = self.failure() {
            self.set_condition("FailureTarget", "True", reason, message);
        } else if self.reached_completions() {
            let message = "Reached expected number of succeeded pods";
            self.set_condition("SuccessCriteriaMet", "True", "CompletionsReached", message);
        }
    }

    fn reached_completions(&self) -> bool {
        let idle = self.active().next().is_none();
        match self.completions() {
            Some(completions) => self.succeeded() >= completions && idle,
            None => self.succeeded() > 0 && idle,
        }
    }

    fn failure(&mut self) -> Option<(&'static str, &'static str)> {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let too_many = self.new_failure && self.failed() > limit;
        if too_many || self.failed() > limit && !self.uncounted_failed.is_empty() || self.restarted_too_often(limit) {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
        }
        let (Some(deadline), Some(start)) = (self.spec.active_deadline_seconds, &self.status.start_time) else {
            return None;
        };
        if self.suspended() {
            return None;
        }
        let at = after_seconds(start.0, deadline);
        if at <= self.now {
            return Some(("DeadlineExceeded", "Job was active longer than specified deadline"));
        }
        self.plan.requeue_at(at, self.now);
        None
    }

    /// With `restartPolicy: OnFailure` the kubelet restarts containers in place; the restarts count.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let restarts: i32 = self
            .pods
            .iter()
            .filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"))
            .map(|pod| total_restarts(pod))
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn finish(&mut self) {
        let busy = self.active().next().is_some() || self.terminating() > 0;
        if busy || !self.uncounted_failed.is_empty() || !self.uncounted_succeeded.is_empty() {
            return;
        }
        let about = reference(self.job);
        if let Some(target) = self.condition("FailureTarget").cloned() {
            let (reason, message) = (target.reason.unwrap_or_default(), target.message.unwrap_or_default());
            self.set_condition("Failed", "True", &reason, &message);
            let known = if reason == "DeadlineExceeded" { "DeadlineExceeded" } else { "BackoffLimitExceeded" };
            self.plan.events.push(warning(&about, known, message));
        } else {
            self.status.completion_time = Some(time(self.now));
            let message = "Reached expected number of succeeded pods";
            self.set_condition("Complete", "True", "CompletionsReached", message);
            self.plan.events.push(normal(&about, "Completed", "Job completed"));
        }
    }

    fn note_suspension(&mut self) {
        let about = reference(self.job);
        let known = self.status.conditions.iter().flatten().find(|c| c.type_ == "Suspended").map(|c| c.status.clone());
        match (self.suspended(), known.as_deref()) {
            (true, Some("True")) => {}
            (true, _) => {
                self.set_condition("Suspended", "True", "JobSuspended", "Job suspended");
                self.status.start_time = None;
                self.plan.events.push(normal(&about, "Suspended", "Job suspended"));
            }
            (false, Some("True")) => {
                self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
                self.status.start_time = Some(time(self.now));
                self.plan.events.push(normal(&about, "Resumed", "Job resumed"));
            }
            (false, _) => {}
        }
    }

    fn set_condition(&mut self, kind: &str, value: &str, reason: &str, message: &str) {
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(JobCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: Some(time(self.now)),
            last_transition_time: Some(time(self.now)),
        });
    }

    /// Status first, then the finalizers of the pods it notes, then whatever creates or deletes pods.
    pub(super) fn write(&mut self) {
        let later = std::mem::take(&mut self.plan.ops);
        self.status.active = nonzero(super::size(self.active().count()));
        let ready = self.active().filter(|pod| pods::is_ready(pod)).count();
        self.status.ready = Some(super::size(ready));
        self.status.terminating = Some(self.terminating());
        self.note_uncounted();
        let old = self.job.status.clone().unwrap_or_default();
        if old != self.status {
            self.plan.push(Op::update_status(&Job { status: Some(self.status.clone()), ..self.job.clone() }));
        }
        self.release_noted();
        self.plan.ops.extend(later);
    }
}

fn total_restarts(pod: &k8s_openapi::api::core::v1::Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.map(|container| container.restart_count).sum()
}
