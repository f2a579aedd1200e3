//! A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetStatus};

use super::Rollout;
use crate::meta::{Meta, after_seconds, nonzero, time};
use crate::plan::Op;

pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// This deadline means none.
const NO_DEADLINE: i32 = i32::MAX;

impl Rollout<'_> {
    fn deadline(&self) -> Option<i32> {
        let seconds = self.deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
        seconds.filter(|seconds| *seconds != NO_DEADLINE)
    }

    pub(super) fn has_deadline(&self) -> bool {
        self.deadline().is_some()
    }

    pub(super) fn status_condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        find(&self.status, kind)
    }

    pub(super) fn progress(&mut self, status: &str, reason: &str, message: String) {
        let now = self.now;
        set_condition(&mut self.status, PROGRESSING, status, reason, message, now);
    }

    /// A paused rollout makes no progress and must not run into its deadline.
    pub(super) fn note_pause(&mut self) {
        if !self.has_deadline() {
            return;
        }
        let paused = self.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
        let reason = self.status_condition(PROGRESSING).and_then(|condition| condition.reason.clone());
        match (paused, reason.as_deref()) {
            (_, Some(TIMED_OUT)) => {}
            (true, Some("DeploymentPaused")) => {}
            (true, _) => self.progress("Unknown", "DeploymentPaused", "Deployment is paused".into()),
            (false, Some("DeploymentPaused")) => {
                self.progress("Unknown", "DeploymentResumed", "Deployment is resumed".into());
            }
            (false, _) => {}
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        complete(self.deployment, self.replicas, &self.counted())
    }

    fn counted(&self) -> DeploymentStatus {
        let status = |set: &k8s_openapi::api::apps::v1::ReplicaSet| set.status.clone().unwrap_or_default();
        let sum = |count: fn(ReplicaSetStatus) -> i32| self.all().map(|set| count(status(set))).sum::<i32>();
        let available = sum(|status| status.available_replicas.unwrap_or_default());
        DeploymentStatus {
            observed_generation: self.deployment.meta().generation,
            replicas: nonzero(sum(|status| status.replicas)),
            updated_replicas: nonzero(self.new.as_ref().map_or(0, |new| status(new).replicas)),
            ready_replicas: nonzero(sum(|status| status.ready_replicas.unwrap_or_default())),
            available_replicas: nonzero(available),
            unavailable_replicas: nonzero((self.total_replicas() - available).max(0)),
            terminating_replicas: Some(sum(|status| status.terminating_replicas.unwrap_or_default())),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.clone(),
        }
    }

    fn calculate(&self) -> DeploymentStatus {
        let mut status = self.counted();
        let available = status.available_replicas.unwrap_or_default();
        let (value, reason, message) = if available >= self.replicas - self.max_unavailable {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        set_condition(&mut status, AVAILABLE, value, reason, message.into(), self.now);
        status
    }

    /// For a Deployment that is being scaled, paused or deleted: counts, no judgement on its progress.
    pub(super) fn write_status_only(&mut self) {
        let status = self.calculate();
        self.write(status);
    }

    pub(super) fn write_rollout_status(&mut self) {
        let mut status = self.calculate();
        let current = self.status_condition(PROGRESSING).cloned();
        let settled = status.replicas.unwrap_or_default() == status.updated_replicas.unwrap_or_default()
            && current.as_ref().and_then(|condition| condition.reason.as_deref()) == Some(NEW_SET_AVAILABLE);
        if !self.has_deadline() {
            remove(&mut status, PROGRESSING);
        } else if !settled {
            self.judge_progress(&mut status, current.as_ref());
        }
        self.carry_failures(&mut status);
        self.write(status);
    }

    fn judge_progress(&mut self, status: &mut DeploymentStatus, current: Option<&DeploymentCondition>) {
        let subject = match &self.new {
            Some(new) => format!("ReplicaSet \"{}\"", new.name()),
            None => format!("Deployment \"{}\"", self.deployment.name()),
        };
        let before = self.deployment.status.clone().unwrap_or_default();
        if complete(self.deployment, self.replicas, status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(status, PROGRESSING, "True", NEW_SET_AVAILABLE, message, self.now);
        } else if progressing(&before, status) {
            let message = format!("{subject} is progressing.");
            let since = current
                .filter(|condition| condition.status == "True")
                .and_then(|condition| condition.last_transition_time.clone());
            remove(status, PROGRESSING);
            set_condition(status, PROGRESSING, "True", "ReplicaSetUpdated", message, self.now);
            if let (Some(since), Some(condition)) = (since, find_mut(status, PROGRESSING)) {
                condition.last_transition_time = Some(since);
            }
        } else if self.timed_out(status) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(status, PROGRESSING, "False", TIMED_OUT, message, self.now);
        }
    }

    fn timed_out(&self, status: &DeploymentStatus) -> bool {
        let (Some(deadline), Some(condition)) = (self.deadline(), find(status, PROGRESSING)) else { return false };
        match condition.reason.as_deref() {
            Some(NEW_SET_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            _ => condition
                .last_update_time
                .as_ref()
                .is_some_and(|from| after_seconds(from.0, i64::from(deadline)) < self.now),
        }
    }

    /// A set that cannot create pods shows up on its Deployment, the new set's troubles first.
    fn carry_failures(&self, status: &mut DeploymentStatus) {
        let failure = self.new.iter().chain(&self.old).find_map(|set| {
            let conditions = set.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE).cloned()
        });
        match failure {
            Some(failure) => set_condition(
                status,
                REPLICA_FAILURE,
                &failure.status,
                &failure.reason.unwrap_or_default(),
                failure.message.unwrap_or_default(),
                self.now,
            ),
            None => remove(status, REPLICA_FAILURE),
        }
    }

    fn write(&mut self, mut status: DeploymentStatus) {
        status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
        self.requeue_for_deadline(&status);
        if self.deployment.status.as_ref() != Some(&status) {
            let copy = Deployment { status: Some(status), ..self.deployment.clone() };
            // After the annotation patch the object has a new resourceVersion; the status goes first.
            self.plan.ops.insert(0, Op::update_status(&copy).or_stale());
        }
    }

    fn requeue_for_deadline(&mut self, status: &DeploymentStatus) {
        let (Some(deadline), Some(condition)) = (self.deadline(), find(status, PROGRESSING)) else { return };
        let waiting = !matches!(condition.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT | "DeploymentPaused"));
        if let (true, Some(from)) = (waiting, &condition.last_update_time) {
            let at = after_seconds(from.0, i64::from(deadline) + 1);
            self.plan.requeue_at(at.max(self.now), self.now);
        }
    }
}

fn complete(deployment: &Deployment, replicas: i32, status: &DeploymentStatus) -> bool {
    status.updated_replicas.unwrap_or_default() == replicas
        && status.replicas.unwrap_or_default() == replicas
        && status.available_replicas.unwrap_or_default() == replicas
        && status.observed_generation.unwrap_or_default() >= deployment.generation()
}

fn progressing(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or_default();
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(after.updated_replicas) > count(before.updated_replicas)
        || old(after) < old(before)
        || count(after.ready_replicas) > count(before.ready_replicas)
        || count(after.available_replicas) > count(before.available_replicas)
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn find_mut<'a>(status: &'a mut DeploymentStatus, kind: &str) -> Option<&'a mut DeploymentCondition> {
    status.conditions.iter_mut().flatten().find(|condition| condition.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// Nothing changes when status and reason stay the same; the transition time only when the status changes.
fn set_condition(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: jiff::Timestamp,
) {
    let current = find(status, kind).cloned();
    if current.as_ref().is_some_and(|old| old.status == value && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = current.filter(|old| old.status == value).and_then(|old| old.last_transition_time);
    remove(status, kind);
    status.conditions.get_or_insert_default().push(DeploymentCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(since.unwrap_or_else(|| time(now))),
    });
}
