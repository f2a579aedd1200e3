//! Counting terminated pods, each exactly once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::UncountedTerminatedPods;
use k8s_openapi::api::core::v1::Pod;

use super::{TRACKING_FINALIZER, View, indexes, size, untrack};
use crate::meta::Meta;
use crate::pods;

/// Uids in the status at a time; the rest waits for the next round.
const MAX_UNCOUNTED: usize = 500;

impl View<'_> {
    /// Last step: pods that were noted and have lost their finalizer, or are gone, move into the counters.
    pub(super) fn count_settled(&mut self) {
        let held: HashMap<&str, ()> =
            self.pods.iter().filter(|pod| pod.has_finalizer(TRACKING_FINALIZER)).map(|pod| (pod.uid(), ())).collect();
        let settled = |uids: &BTreeSet<String>| -> Vec<String> {
            uids.iter().filter(|uid| !held.contains_key(uid.as_str())).cloned().collect()
        };
        let (succeeded, failed) = (settled(&self.uncounted_succeeded), settled(&self.uncounted_failed));
        succeeded.iter().for_each(|uid| {
            self.uncounted_succeeded.remove(uid);
        });
        failed.iter().for_each(|uid| {
            self.uncounted_failed.remove(uid);
        });
        if !self.indexed() && !succeeded.is_empty() {
            *self.status.succeeded.get_or_insert_default() += size(succeeded.len());
        }
        if !failed.is_empty() {
            *self.status.failed.get_or_insert_default() += size(failed.len());
        }
    }

    /// First step: note pods that terminated since. Indexes are noted at once, for they cannot count twice.
    pub(super) fn collect_terminated(&mut self) {
        let noted: Vec<String> = self.uncounted().into_iter().map(str::to_owned).collect();
        let fresh: Vec<Arc<Pod>> = self
            .pods
            .iter()
            .filter(|pod| pod.has_finalizer(TRACKING_FINALIZER) && !noted.iter().any(|uid| uid == pod.uid()))
            .filter(|pod| pods::is_succeeded(pod) || self.counts_as_failed(pod))
            .cloned()
            .collect();
        for pod in fresh.into_iter().take(MAX_UNCOUNTED.saturating_sub(noted.len())) {
            if !pods::is_succeeded(&pod) {
                self.uncounted_failed.insert(pod.uid().to_owned());
                self.new_failure = true;
            } else if !self.indexed() {
                self.uncounted_succeeded.insert(pod.uid().to_owned());
            } else if let Some(index) = indexes::of(&pod).filter(|index| Some(*index) < self.completions()) {
                self.succeeded_indexes.insert(index);
            }
        }
        if self.indexed() {
            self.status.succeeded = Some(size(self.succeeded_indexes.len())).filter(|count| *count > 0);
            let text = indexes::format(&self.succeeded_indexes);
            self.status.completed_indexes = (!text.is_empty()).then_some(text);
        }
    }

    /// A pod being deleted will not succeed any more, unless the job waits for the end of every pod.
    fn counts_as_failed(&self, pod: &Pod) -> bool {
        let only_failed = self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        pods::is_failed(pod) || pod.deleting() && !only_failed && !pods::is_succeeded(pod)
    }

    pub(super) fn note_uncounted(&mut self) {
        let list = |uids: &BTreeSet<String>| (!uids.is_empty()).then(|| uids.iter().cloned().collect::<Vec<_>>());
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted_succeeded),
            failed: list(&self.uncounted_failed),
        });
    }

    /// Second step: finalizers of noted pods go, after the status that notes them.
    pub(super) fn release_noted(&mut self) {
        let noted = self.uncounted();
        let release = |pod: &&Arc<Pod>| {
            let by_index = self.indexed()
                && pods::is_succeeded(pod)
                && indexes::of(pod)
                    .is_none_or(|index| self.succeeded_indexes.contains(&index) || Some(index) >= self.completions());
            pod.has_finalizer(TRACKING_FINALIZER) && (noted.contains(pod.uid()) || by_index)
        };
        let ops: Vec<_> = self.pods.iter().filter(release).map(|pod| untrack(pod)).collect();
        self.plan.ops.extend(ops);
    }
}
