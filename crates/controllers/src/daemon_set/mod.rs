//! DaemonSet: one pod on every node that suits it.
//!
//! Pods are pinned to their node by a node affinity on `metadata.name` and go through the scheduler. `placement`
//! says which node wants a pod, `update` replaces pods of older templates; here the two become a plan.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::backoff::Backoff;
use crate::claim::claim;
use crate::meta::{Meta, nonzero};
use crate::plan::{Op, Plan, normal, reference, warning};
use crate::{pods, revision, selector};

pub mod placement;
#[cfg(test)]
mod tests;
mod update;

const BURST_REPLICAS: usize = 250;
/// Failed pods on a node are replaced after 1 s, 2 s, ... up to this.
pub const MAX_FAILED_POD_BACKOFF: Duration = Duration::from_secs(15 * 60);

pub struct Observed<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// Pods it owns and pods of its namespace nobody owns.
    pub pods: &'a [Arc<Pod>],
    pub revisions: &'a [Arc<ControllerRevision>],
    pub name_taken: &'a dyn Fn(&str) -> bool,
}

/// Pods by the node they are on or meant for, the oldest first.
type ByNode<'a> = BTreeMap<String, Vec<&'a Arc<Pod>>>;

struct View<'a> {
    set: &'a DaemonSet,
    nodes: &'a [Arc<Node>],
    by_node: ByNode<'a>,
    hash: String,
    now: jiff::Timestamp,
    changes: Changes<'a>,
}

/// Nodes to create a pod on, pods to delete.
#[derive(Default)]
struct Changes<'a> {
    create: Vec<String>,
    delete: BTreeMap<String, &'a Arc<Pod>>,
}

/// The key under which `backoff` remembers a node of a set.
fn backoff_key(set: &DaemonSet, node: &str) -> String {
    format!("{}/{node}", set.uid())
}

pub fn new_backoff() -> Backoff {
    Backoff::new(Duration::from_secs(1), MAX_FAILED_POD_BACKOFF)
}

pub fn plan(observed: &Observed, backoff: &mut Backoff, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    let (set, Some(spec)) = (observed.set, &observed.set.spec) else { return plan };
    if selector::is_empty(&spec.selector) {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        plan.events.push(warning(&reference(set), "SelectingAll", message));
        return plan;
    }
    if set.deleting() {
        return plan;
    }
    let history = claim(set, observed.revisions, |labels| selector::matches(&spec.selector, labels));
    plan.ops.extend(history.ops);
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let Some(ensured) = revision::ensure(set, &spec.template, &history.mine, collisions, observed.name_taken) else {
        return raise_collision_count(set, plan);
    };
    plan.ops.extend(ensured.op);
    let current = ensured.revision;
    let claimed = claim(set, observed.pods, |labels| selector::matches(&spec.selector, labels));
    plan.ops.extend(claimed.ops);
    let hash = revision::hash_of(&current).to_owned();
    let by_node = by_node(&claimed.mine);
    let mut view = View { set, nodes: observed.nodes, by_node, hash, now, changes: Changes::default() };
    view.write_status(&mut plan);
    view.place(backoff, &mut plan);
    view.update(&mut plan);
    view.write_changes(&mut plan);
    let limit = spec.revision_history_limit.unwrap_or(10);
    let live = |revision: &ControllerRevision| {
        revision.name() == current.name()
            || claimed.mine.iter().any(|pod| pod.label(revision::HASH_LABEL) == Some(revision::hash_of(revision)))
    };
    plan.ops.extend(revision::clean_up(&history.mine, &live, limit));
    plan
}

fn raise_collision_count(set: &DaemonSet, mut plan: Plan) -> Plan {
    let mut copy = set.clone();
    let count = copy.status.get_or_insert_default().collision_count.get_or_insert_default();
    *count += 1;
    plan.push(Op::update_status(&copy));
    plan
}

/// Pods that are gone but for their finalizers no longer hold their node.
fn by_node(pods: &[Arc<Pod>]) -> ByNode<'_> {
    let mut map = ByNode::new();
    for pod in pods.iter().filter(|pod| !(pod.deleting() && pods::is_terminal(pod))) {
        map.entry(placement::target_node(pod)).or_default().push(pod);
    }
    for pods in map.values_mut() {
        pods.sort_by_key(|pod| (pods::node_name(pod).is_empty(), pod.created(), pod.name().to_owned()));
    }
    map
}

impl<'a> View<'a> {
    fn min_ready_seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready_seconds(), self.now)
    }

    fn updated(&self, pod: &Pod) -> bool {
        pod.label(revision::HASH_LABEL) == Some(self.hash.as_str())
    }

    /// Fills empty nodes, empties unsuitable ones, clears away finished and surplus pods.
    fn place(&mut self, backoff: &mut Backoff, plan: &mut Plan) {
        for node in self.nodes {
            let verdict = placement::decide(self.set, node);
            let pods = self.by_node.get(node.name()).cloned().unwrap_or_default();
            if verdict.should_run && pods.is_empty() {
                self.changes.create.push(node.name().to_owned());
            } else if verdict.should_continue {
                self.tidy(node.name(), &pods, backoff, plan);
            } else {
                pods.iter().filter(|pod| !pod.deleting()).for_each(|pod| self.changes.delete(pod));
            }
        }
        let known: HashMap<&str, ()> = self.nodes.iter().map(|node| (node.name(), ())).collect();
        let unscheduled: Vec<&Arc<Pod>> = self
            .by_node
            .iter()
            .filter(|(node, _)| !known.contains_key(node.as_str()))
            .flat_map(|(_, pods)| pods.iter().copied())
            .filter(|pod| pods::node_name(pod).is_empty())
            .collect();
        // Pods bound to a node that is gone are the pod garbage collector's; those never bound are ours.
        unscheduled.into_iter().filter(|pod| !pod.deleting()).for_each(|pod| self.changes.delete(pod));
    }

    fn tidy(&mut self, node: &str, pods: &[&'a Arc<Pod>], backoff: &mut Backoff, plan: &mut Plan) {
        let about = reference(self.set);
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !pod.deleting()) {
            let place = format!("{}/{} on node {node}", pod.namespace(), pod.name());
            if pods::is_failed(pod) {
                let key = backoff_key(self.set, node);
                if let Some(left) = backoff.remaining(&key, self.now) {
                    plan.requeue(left);
                    continue;
                }
                backoff.next(&key, self.now);
                let message = format!("Found failed daemon pod {place}, will try to kill it");
                plan.events.push(warning(&about, "FailedDaemonPod", message));
                self.changes.delete(pod);
            } else if pods::is_succeeded(pod) {
                let message = format!("Found succeeded daemon pod {place}, will try to delete it");
                plan.events.push(normal(&about, "SucceededDaemonPod", message));
                self.changes.delete(pod);
            } else {
                running.push(*pod);
            }
        }
        if self.max_surge() == 0 {
            running.iter().skip(1).for_each(|pod| self.changes.delete(pod));
        } else {
            self.prune_surge(&running);
        }
    }

    /// While surging a node may hold one old and one new pod, until the new one is available or the old one is no
    /// longer ready.
    fn prune_surge(&mut self, running: &[&'a Arc<Pod>]) {
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = running.iter().copied().partition(|pod| self.updated(pod));
        new.iter().skip(1).chain(old.iter().skip(1)).for_each(|pod| self.changes.delete(pod));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::is_ready(old) || self.available(new))
        {
            self.changes.delete(old);
        }
    }

    fn write_changes(self, plan: &mut Plan) {
        let about = reference(self.set);
        for pod in self.changes.delete.into_values().take(BURST_REPLICAS) {
            plan.push(
                Op::delete(pod.as_ref())
                    .on_success(normal(&about, "SuccessfulDelete", "Deleted pod: {name}"))
                    .on_failure(warning(&about, "FailedDelete", "Error deleting: {error}")),
            );
        }
        for node in self.changes.create.into_iter().take(BURST_REPLICAS) {
            plan.push(
                Op::create(&placement::pod_for(self.set, &node, &self.hash))
                    .on_success(normal(&about, "SuccessfulCreate", "Created pod: {name}"))
                    .on_failure(warning(&about, "FailedCreate", "Error creating: {error}")),
            );
        }
    }

    fn write_status(&self, plan: &mut Plan) {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.meta().generation,
            collision_count: self.set.status.as_ref().and_then(|status| status.collision_count),
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for node in self.nodes {
            let pods = self.by_node.get(node.name());
            if !placement::decide(self.set, node).should_run {
                status.number_misscheduled += i32::from(pods.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(pod) = pods.and_then(|pods| pods.first()) else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pods::is_ready(pod));
            available += i32::from(self.available(pod));
            updated += i32::from(self.updated(pod));
            if let Some(at) = pods::available_at(pod, self.min_ready_seconds()).filter(|at| *at > self.now) {
                plan.requeue_at(at, self.now);
            }
        }
        status.updated_number_scheduled = nonzero(updated);
        status.number_available = nonzero(available);
        status.number_unavailable = nonzero(status.desired_number_scheduled - available);
        if self.set.status.as_ref() != Some(&status) {
            plan.push(Op::update_status(&DaemonSet { status: Some(status), ..self.set.clone() }));
        }
    }
}

impl<'a> Changes<'a> {
    fn delete(&mut self, pod: &'a Arc<Pod>) {
        self.delete.insert(pod.name().to_owned(), pod);
    }
}
