//! What ReplicaSet and ReplicationController share: how many pods to create or delete, and what to count.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;

use crate::meta::Meta;
use crate::plan::{Op, Plan, normal, reference, warning};
use crate::pods;
use crate::selector::{self, Labels};

/// At most this many pods are created or deleted for one set at a time.
pub const BURST_REPLICAS: usize = 500;

/// What a set counts of its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    pub terminating: i32,
}

/// A set as this module sees it.
pub struct Set<'a, O> {
    pub owner: &'a O,
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub template: &'a PodTemplateSpec,
}

impl<O: Resource + Metadata<Ty = ObjectMeta> + Serialize> Set<'_, O> {
    pub fn count(&self, pods: &[Arc<Pod>], now: jiff::Timestamp) -> Counts {
        let empty = Labels::new();
        let wanted = self.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref()).unwrap_or(&empty);
        let mut counts = Counts::default();
        for pod in pods {
            counts.terminating += i32::from(pods::is_terminating(pod));
            if pods::is_active(pod) {
                counts.replicas += 1;
                counts.fully_labeled += i32::from(selector::contains(pod.meta().labels.as_ref(), wanted));
                counts.ready += i32::from(pods::is_ready(pod));
                counts.available += i32::from(pods::is_available(pod, self.min_ready_seconds, now));
            }
        }
        counts
    }

    /// Creates what is missing, deletes what is too much. `related` are the active pods of all sets with the same
    /// owner: nodes that hold many of them lose one first.
    pub fn scale(&self, mine: &[Arc<Pod>], related: &[Arc<Pod>], now: jiff::Timestamp, plan: &mut Plan) {
        let active: Vec<&Arc<Pod>> = mine.iter().filter(|pod| pods::is_active(pod)).collect();
        let wanted = usize::try_from(self.replicas).unwrap_or_default();
        if active.len() < wanted {
            let missing = (wanted - active.len()).min(BURST_REPLICAS);
            let create = self.creation();
            plan.ops.extend(std::iter::repeat_n(create, missing));
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST_REPLICAS);
            let victims = rank(active, related, now);
            plan.ops.extend(victims.into_iter().take(surplus).map(|pod| self.deletion(pod)));
        }
    }

    fn creation(&self) -> Op {
        let about = reference(self.owner);
        Op::create(&pods::from_template(self.template, self.owner))
            .on_success(normal(&about, "SuccessfulCreate", "Created pod: {name}"))
            .on_failure(warning(&about, "FailedCreate", "Error creating: {error}"))
    }

    fn deletion(&self, pod: &Pod) -> Op {
        let about = reference(self.owner);
        Op::delete(pod).on_success(normal(&about, "SuccessfulDelete", "Deleted pod: {name}")).on_failure(warning(
            &about,
            "FailedDelete",
            "Error deleting: {error}",
        ))
    }

    /// Looks again when the next ready pod has been ready for long enough.
    pub fn requeue_for_availability(&self, mine: &[Arc<Pod>], now: jiff::Timestamp, plan: &mut Plan) {
        let next = mine
            .iter()
            .filter(|pod| pods::is_active(pod))
            .filter_map(|pod| pods::available_at(pod, self.min_ready_seconds))
            .filter(|at| *at > now)
            .min();
        if let Some(at) = next {
            plan.requeue_at(at, now);
        }
    }
}

fn rank<'a>(active: Vec<&'a Arc<Pod>>, related: &[Arc<Pod>], now: jiff::Timestamp) -> Vec<&'a Arc<Pod>> {
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        *per_node.entry(pods::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| per_node.get(pods::node_name(pod)).copied().unwrap_or_default();
    let mut victims = active;
    victims.sort_by(|a, b| pods::deletion_order((a, rank(a)), (b, rank(b)), now));
    victims
}
