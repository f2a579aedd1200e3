//! Starting and stopping a job's pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::{COMPLETION_INDEX, TRACKING_FINALIZER, View, indexes, size};
use crate::meta::{Meta, after_seconds};
use crate::plan::{Op, normal, reference, warning};
use crate::pods;

const MAX_CHANGES_PER_SYNC: usize = 500;
/// After the n-th failure in a row the next pod waits 10 s * 2^(n-1), at most ten minutes.
const BACKOFF_SECONDS: i64 = 10;
const MAX_BACKOFF_SECONDS: i64 = 600;

impl View<'_> {
    pub(super) fn manage(&mut self) {
        if self.suspended() {
            self.stop_all();
            return;
        }
        let active: Vec<Arc<Pod>> = self.active().cloned().collect();
        let wanted = self.wanted(size(active.len()));
        let surplus = self.surplus(&active, wanted);
        if !surplus.is_empty() {
            self.delete(&surplus);
            return;
        }
        let waits_for_end = self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        let occupied = size(active.len()) + if waits_for_end { self.terminating() } else { 0 };
        let missing = usize::try_from(wanted - occupied).unwrap_or_default().min(MAX_CHANGES_PER_SYNC);
        if missing == 0 {
            return;
        }
        if let Some(at) = self.backoff_until().filter(|at| *at > self.now) {
            self.plan.requeue_at(at, self.now);
            return;
        }
        let ops: Vec<Op> = if self.indexed() {
            self.free_indexes(missing).into_iter().map(|index| self.creation(Some(index))).collect()
        } else {
            std::iter::repeat_n(self.creation(None), missing).collect()
        };
        self.plan.ops.extend(ops);
    }

    fn wanted(&self, active: i32) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        match self.completions() {
            // A work queue: the first success says that the work is done; those still running may finish.
            None if self.succeeded() > 0 => active,
            None => parallelism,
            Some(completions) => (completions - self.succeeded()).clamp(0, parallelism),
        }
    }

    /// Pods of doubled or finished indexes first, then the cheapest to lose.
    fn surplus(&self, active: &[Arc<Pod>], wanted: i32) -> Vec<Arc<Pod>> {
        let mut ranked: Vec<Arc<Pod>> = active.to_vec();
        ranked.sort_by(|a, b| pods::deletion_order((a, 0), (b, 0), self.now));
        let mut surplus = Vec::new();
        if self.indexed() {
            let mut seen: BTreeSet<i32> = self.succeeded_indexes.clone();
            let completions = self.completions().unwrap_or_default();
            // From the most to the least valuable, so that the better twin stays.
            let keep = |pod: &Arc<Pod>| indexes::of(pod).is_some_and(|index| index < completions && seen.insert(index));
            let kept: Vec<bool> = ranked.iter().rev().map(keep).collect();
            let (stay, go): (Vec<_>, Vec<_>) = ranked.into_iter().rev().zip(kept).partition(|(_, keep)| *keep);
            surplus.extend(go.into_iter().map(|(pod, _)| pod));
            ranked = stay.into_iter().rev().map(|(pod, _)| pod).collect();
        }
        let too_many = ranked.len().saturating_sub(usize::try_from(wanted).unwrap_or_default());
        surplus.extend(ranked.into_iter().take(too_many));
        surplus.truncate(MAX_CHANGES_PER_SYNC);
        surplus
    }

    fn free_indexes(&self, count: usize) -> Vec<i32> {
        let waits_for_end = self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        let busy: BTreeSet<i32> = self
            .pods
            .iter()
            .filter(|pod| pods::is_active(pod) || waits_for_end && pods::is_terminating(pod))
            .filter_map(|pod| indexes::of(pod))
            .collect();
        let free = |index: &i32| !busy.contains(index) && !self.succeeded_indexes.contains(index);
        (0..self.completions().unwrap_or_default()).filter(free).take(count).collect()
    }

    pub(super) fn stop_all(&mut self) {
        let active: Vec<Arc<Pod>> = self.active().take(MAX_CHANGES_PER_SYNC).cloned().collect();
        self.delete(&active);
    }

    fn delete(&mut self, victims: &[Arc<Pod>]) {
        let about = reference(self.job);
        let ops = victims.iter().map(|pod| {
            Op::delete(pod.as_ref())
                .on_success(normal(&about, "SuccessfulDelete", "Deleted pod: {name}"))
                .on_failure(warning(&about, "FailedDelete", "Error deleting: {error}"))
        });
        self.plan.ops.extend(ops);
    }

    /// Failures since the last success decide how long to wait, counted from the latest of them.
    fn backoff_until(&self) -> Option<Timestamp> {
        let last_success = self.pods.iter().filter(|pod| pods::is_succeeded(pod)).map(|pod| finished_at(pod)).max();
        let failures: Vec<Timestamp> = self
            .pods
            .iter()
            .filter(|pod| pods::is_failed(pod))
            .map(|pod| finished_at(pod))
            .filter(|at| last_success.is_none_or(|success| *at > success))
            .collect();
        let exponent = u32::try_from(failures.len()).unwrap_or(u32::MAX).checked_sub(1)?;
        let delay = 2_i64.checked_pow(exponent).unwrap_or(i64::MAX).saturating_mul(BACKOFF_SECONDS);
        Some(after_seconds(failures.into_iter().max()?, delay.min(MAX_BACKOFF_SECONDS)))
    }

    fn creation(&self, index: Option<i32>) -> Op {
        let mut pod = pods::from_template(&self.spec.template, self.job);
        pod.metadata.finalizers.get_or_insert_default().push(TRACKING_FINALIZER.into());
        if let Some(index) = index {
            give_index(&mut pod, self.job.name(), index);
        }
        let about = reference(self.job);
        Op::create(&pod).on_success(normal(&about, "SuccessfulCreate", "Created pod: {name}")).on_failure(warning(
            &about,
            "FailedCreate",
            "Error creating: {error}",
        ))
    }
}

fn give_index(pod: &mut Pod, job: &str, index: i32) {
    let meta = &mut pod.metadata;
    meta.annotations.get_or_insert_default().insert(COMPLETION_INDEX.into(), index.to_string());
    meta.labels.get_or_insert_default().insert(COMPLETION_INDEX.into(), index.to_string());
    meta.generate_name = Some(format!("{job}-{index}-"));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job}-{index}"));
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|variable| variable.name == "JOB_COMPLETION_INDEX") {
            env.push(index_variable());
        }
    }
}

fn index_variable() -> EnvVar {
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{COMPLETION_INDEX}']") };
    EnvVar {
        name: "JOB_COMPLETION_INDEX".into(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    }
}

/// When the last container ended; for a pod that never ran, when it was deleted or created.
fn finished_at(pod: &Pod) -> Timestamp {
    let ended = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .filter_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .max();
    let ready = pods::condition(pod, "Ready").and_then(|condition| condition.last_transition_time.as_ref());
    let deleted = pod.meta().deletion_timestamp.as_ref();
    ended.or(ready).or(deleted).map_or_else(|| pod.created(), |time| time.0)
}
