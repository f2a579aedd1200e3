//! StatefulSet: pods with an ordinal, a stable name and storage of their own.
//!
//! In ordered mode one step is taken at a time, from ordinal 0 up when creating and from the top down when deleting
//! or updating, and only while every predecessor is running and available. `Parallel` drops the waiting, not the
//! identities. Never two pods of one ordinal: a name is reused only after its pod is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::claim::claim;
use crate::meta::{Meta, nonzero};
use crate::plan::{Op, Plan, normal, reference, warning};
use crate::revision::{self, HASH_LABEL};
use crate::{pods, selector};

pub mod identity;
#[cfg(test)]
mod tests;
mod update;

pub struct Observed<'a> {
    pub set: &'a StatefulSet,
    /// Pods it owns and pods of its namespace nobody owns.
    pub pods: &'a [Arc<Pod>],
    pub revisions: &'a [Arc<ControllerRevision>],
    pub name_taken: &'a dyn Fn(&str) -> bool,
    /// Whether a PersistentVolumeClaim of this name exists; always true where the API does not serve them.
    pub claim_exists: &'a dyn Fn(&str) -> bool,
}

struct View<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    /// Pods inside the wanted ordinals, and those beyond them.
    replicas: BTreeMap<i32, &'a Arc<Pod>>,
    condemned: BTreeMap<i32, &'a Arc<Pod>>,
    current: ControllerRevision,
    update: ControllerRevision,
    claim_exists: &'a dyn Fn(&str) -> bool,
    now: jiff::Timestamp,
}

pub fn plan(observed: &Observed, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    let (set, Some(spec)) = (observed.set, &observed.set.spec) else { return plan };
    if selector::is_empty(&spec.selector) {
        return plan;
    }
    let history = claim(set, observed.revisions, |labels| selector::matches(&spec.selector, labels));
    plan.ops.extend(history.ops);
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let Some(ensured) = revision::ensure(set, &spec.template, &history.mine, collisions, observed.name_taken) else {
        return raise_collision_count(set, plan);
    };
    plan.ops.extend(ensured.op);
    let update = ensured.revision;
    let claimed = claim_members(set, spec, observed.pods, &mut plan);
    let view = View::new(observed, spec, &claimed, current(set, &history.mine, &update), update, now);
    view.write_status(&claimed, &mut plan);
    if !set.deleting() {
        view.step(&mut plan);
    }
    let live = |revision: &ControllerRevision| view.is_live(revision, &claimed);
    let limit = spec.revision_history_limit.unwrap_or(10);
    plan.ops.extend(revision::clean_up(&history.mine, &live, limit));
    plan
}

/// Only pods that carry the set's name and an ordinal are its own.
fn claim_members(set: &StatefulSet, spec: &StatefulSetSpec, pods: &[Arc<Pod>], plan: &mut Plan) -> Vec<Arc<Pod>> {
    let members: Vec<Arc<Pod>> =
        pods.iter().filter(|pod| identity::ordinal_of(set.name(), pod.name()).is_some()).cloned().collect();
    let claimed = claim(set, &members, |labels| selector::matches(&spec.selector, labels));
    plan.ops.extend(claimed.ops);
    claimed.mine
}

fn raise_collision_count(set: &StatefulSet, mut plan: Plan) -> Plan {
    let mut copy = set.clone();
    *copy.status.get_or_insert_default().collision_count.get_or_insert_default() += 1;
    plan.push(Op::update_status(&copy));
    plan
}

/// The revision the set had settled on before the template changed.
fn current(set: &StatefulSet, history: &[Arc<ControllerRevision>], update: &ControllerRevision) -> ControllerRevision {
    let name = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let found = history.iter().find(|revision| Some(revision.name()) == name);
    found.map_or_else(|| update.clone(), |revision| (**revision).clone())
}

/// What a replica is, as far as its neighbours are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Finished,
    Terminating,
    NotReady,
    Ready,
    Available,
}

impl<'a> View<'a> {
    fn new(
        observed: &Observed<'a>,
        spec: &'a StatefulSetSpec,
        pods: &'a [Arc<Pod>],
        current: ControllerRevision,
        update: ControllerRevision,
        now: jiff::Timestamp,
    ) -> Self {
        let range = identity::ordinals(spec);
        let (mut replicas, mut condemned) = (BTreeMap::new(), BTreeMap::new());
        for pod in pods {
            let Some(ordinal) = identity::ordinal_of(observed.set.name(), pod.name()) else { continue };
            if range.contains(&ordinal) { &mut replicas } else { &mut condemned }.insert(ordinal, pod);
        }
        let (set, claim_exists) = (observed.set, observed.claim_exists);
        Self { set, spec, replicas, condemned, current, update, claim_exists, now }
    }

    fn ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or_default()
    }

    fn health(&self, pod: &Pod) -> Health {
        if pod.deleting() {
            Health::Terminating
        } else if pods::is_terminal(pod) {
            Health::Finished
        } else if pods::phase(pod) != "Running" || !pods::is_ready(pod) {
            Health::NotReady
        } else if pods::is_available(pod, self.min_ready_seconds(), self.now) {
            Health::Available
        } else {
            Health::Ready
        }
    }

    fn step(&self, plan: &mut Plan) {
        if self.fill(plan) && self.shrink(plan) {
            self.roll(plan);
        }
    }

    /// Brings every wanted ordinal to life. Tells whether the next phase may start.
    fn fill(&self, plan: &mut Plan) -> bool {
        for ordinal in identity::ordinals(self.spec) {
            let settled = match self.replicas.get(&ordinal) {
                None => {
                    self.create(ordinal, plan);
                    false
                }
                Some(pod) => match self.health(pod) {
                    Health::Finished => {
                        self.recreate(pod, plan);
                        false
                    }
                    Health::Terminating | Health::NotReady => {
                        self.ensure_claims(ordinal, pod, plan);
                        false
                    }
                    Health::Ready => {
                        self.requeue_for_availability(pod, plan);
                        false
                    }
                    Health::Available => true,
                },
            };
            if !settled && self.ordered() {
                return false;
            }
        }
        true
    }

    /// Deletes the pods beyond the wanted ordinals, the highest first.
    fn shrink(&self, plan: &mut Plan) -> bool {
        // One unhealthy pod may go although others below it are not ready: it might be the very reason.
        let unhealthy = |pod: &Arc<Pod>| !matches!(self.health(pod), Health::Ready | Health::Available);
        let first_unhealthy =
            self.replicas.values().chain(self.condemned.values()).find(|pod| unhealthy(pod)).map(|pod| pod.name());
        for pod in self.condemned.values().rev() {
            let health = self.health(pod);
            if health == Health::Terminating {
                if self.ordered() {
                    return false;
                }
                continue;
            }
            if self.ordered() && unhealthy(pod) && first_unhealthy != Some(pod.name()) {
                return false;
            }
            plan.push(self.deletion(pod));
            if self.ordered() {
                return false;
            }
        }
        true
    }

    fn requeue_for_availability(&self, pod: &Pod, plan: &mut Plan) {
        if let Some(at) = pods::available_at(pod, self.min_ready_seconds()) {
            plan.requeue_at(at.max(self.now), self.now);
        }
    }

    fn recreate(&self, pod: &Pod, plan: &mut Plan) {
        let (reason, word) = if pods::is_failed(pod) {
            ("RecreatingFailedPod", "failed")
        } else {
            ("RecreatingTerminatedPod", "terminated")
        };
        let message =
            format!("StatefulSet {}/{} is recreating {word} Pod {}", self.set.namespace(), self.set.name(), pod.name());
        plan.events.push(warning(&reference(self.set), reason, message));
        plan.push(self.deletion(pod));
    }

    fn deletion(&self, pod: &Pod) -> Op {
        let about = reference(self.set);
        let subject = format!("delete Pod {} in StatefulSet {}", pod.name(), self.set.name());
        Op::delete(pod)
            .on_success(normal(&about, "SuccessfulDelete", format!("{subject} successful")))
            .on_failure(warning(&about, "FailedDelete", format!("{subject} failed error: {{error}}")))
    }

    fn create(&self, ordinal: i32, plan: &mut Plan) {
        self.create_claims(ordinal, plan);
        let about = reference(self.set);
        let pod = self.pod_for(ordinal);
        let subject = format!("create Pod {} in StatefulSet {}", pod.name(), self.set.name());
        plan.push(
            Op::create(&pod)
                .on_success(normal(&about, "SuccessfulCreate", format!("{subject} successful")))
                .on_failure(warning(&about, "FailedCreate", format!("{subject} failed error: {{error}}"))),
        );
    }

    fn ensure_claims(&self, ordinal: i32, pod: &Pod, plan: &mut Plan) {
        if pods::phase(pod) == "Pending" && !pod.deleting() {
            self.create_claims(ordinal, plan);
        }
    }

    fn create_claims(&self, ordinal: i32, plan: &mut Plan) {
        let about = reference(self.set);
        for claim in identity::claims(self.set, self.spec, ordinal) {
            if (self.claim_exists)(claim.name()) {
                continue;
            }
            let pod = identity::pod_name(self.set.name(), ordinal);
            let subject = format!("create Claim {} Pod {pod} in StatefulSet {}", claim.name(), self.set.name());
            plan.push(
                Op::create(&claim)
                    .or_exists()
                    .on_success(normal(&about, "SuccessfulCreate", format!("{subject} success")))
                    .on_failure(warning(&about, "FailedCreate", format!("{subject} failed error: {{error}}"))),
            );
        }
    }

    fn is_live(&self, revision: &ControllerRevision, pods: &[Arc<Pod>]) -> bool {
        let name = revision.name();
        name == self.current.name()
            || name == self.update.name()
            || pods.iter().any(|pod| pod.label(HASH_LABEL) == Some(name))
    }

    fn write_status(&self, pods: &[Arc<Pod>], plan: &mut Plan) {
        let count = |test: &dyn Fn(&Pod) -> bool| {
            i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
        };
        let of = |revision: &str, pod: &Pod| !pod.deleting() && pod.label(HASH_LABEL) == Some(revision);
        let running = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
        let replicas = count(&|_| true);
        let ready = count(&running);
        let updated = count(&|pod| of(self.update.name(), pod));
        let settled = updated == replicas && ready == replicas && self.rolls() && !self.set.deleting();
        let current_name = if settled { self.update.name() } else { self.current.name() };
        let available = count(&|pod| running(pod) && pods::is_available(pod, self.min_ready_seconds(), self.now));
        let status = StatefulSetStatus {
            replicas,
            ready_replicas: nonzero(ready),
            available_replicas: Some(available),
            current_replicas: nonzero(count(&|pod| of(current_name, pod))),
            updated_replicas: nonzero(updated),
            current_revision: Some(current_name.to_owned()),
            update_revision: Some(self.update.name().to_owned()),
            observed_generation: self.set.meta().generation,
            collision_count: Some(self.set.status.as_ref().and_then(|old| old.collision_count).unwrap_or_default()),
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
        };
        if self.set.status.as_ref() != Some(&status) {
            plan.push(Op::update_status(&StatefulSet { status: Some(status), ..self.set.clone() }));
        }
    }
}
