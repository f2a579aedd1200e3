//! Deployment: rolls its ReplicaSets from one template to the next.
//!
//! One ReplicaSet per template; the one whose template equals the Deployment's is the new one, all others are old.
//! `sets` finds and numbers them, `rolling` moves replicas between them, `status` tells how far it got. A rollback is
//! nothing special: the client writes an earlier template back, the old set becomes the new one and gets the next
//! revision number.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::claim::claim;
use crate::meta::{Meta, Round, scaled_value};
use crate::plan::{Event, Failure, Op, Plan, normal, reference, warning};
use crate::{pods, selector};

mod rolling;
mod sets;
mod status;
#[cfg(test)]
mod tests;

pub use sets::{DESIRED_REPLICAS, MAX_REPLICAS, POD_TEMPLATE_HASH, REVISION, REVISION_HISTORY};

pub struct Observed<'a> {
    pub deployment: &'a Deployment,
    /// ReplicaSets it owns and those of its namespace nobody owns.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Pods of the ReplicaSets it owns.
    pub pods: &'a [Arc<Pod>],
    /// Whether a ReplicaSet with this name exists, whoever owns it.
    pub name_taken: &'a dyn Fn(&str) -> bool,
    pub failure: Option<&'a Failure>,
}

/// A Deployment with its numbers worked out, and the plan being written.
struct Rollout<'a> {
    deployment: &'a Deployment,
    replicas: i32,
    max_surge: i32,
    max_unavailable: i32,
    /// `None` as long as no ReplicaSet has the current template.
    new: Option<ReplicaSet>,
    old: Vec<ReplicaSet>,
    pods: &'a [Arc<Pod>],
    failure: Option<&'a Failure>,
    now: jiff::Timestamp,
    plan: Plan,
    status: k8s_openapi::api::apps::v1::DeploymentStatus,
}

pub fn plan(observed: &Observed, now: jiff::Timestamp) -> Plan {
    let deployment = observed.deployment;
    let Some(spec) = &deployment.spec else { return Plan::default() };
    if selector::is_empty(&spec.selector) {
        return refuse_everything(deployment);
    }
    let claimed = claim(deployment, observed.sets, |labels| selector::matches(&spec.selector, labels));
    let mut rollout = Rollout::new(observed, &claimed.mine, now);
    rollout.plan.ops.extend(claimed.ops);
    if deployment.deleting() {
        rollout.write_status_only();
        return rollout.plan;
    }
    rollout.note_pause();
    let paused = spec.paused == Some(true);
    let recreate = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
    if paused || rollout.is_scaling() {
        rollout.number_sets();
        rollout.scale_all();
        if paused {
            rollout.clean_up();
        }
        rollout.write_status_only();
    } else if recreate {
        rollout.recreate(observed);
    } else {
        rollout.roll(observed);
    }
    rollout.plan
}

fn refuse_everything(deployment: &Deployment) -> Plan {
    let mut plan = Plan::default();
    let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
    if seen.unwrap_or_default() < deployment.generation() {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.events.push(warning(&reference(deployment), "SelectingAll", message));
        let mut copy = deployment.clone();
        copy.status.get_or_insert_default().observed_generation = deployment.meta().generation;
        plan.push(Op::update_status(&copy));
    }
    plan
}

impl<'a> Rollout<'a> {
    fn new(observed: &Observed<'a>, mine: &[Arc<ReplicaSet>], now: jiff::Timestamp) -> Self {
        let deployment = observed.deployment;
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let (max_surge, max_unavailable) = limits(deployment, replicas);
        let (new, old) = sets::split(deployment, mine);
        Self {
            deployment,
            replicas,
            max_surge,
            max_unavailable,
            new,
            old,
            pods: observed.pods,
            failure: observed.failure,
            now,
            plan: Plan::default(),
            status: deployment.status.clone().unwrap_or_default(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    fn total_replicas(&self) -> i32 {
        self.all().map(sets::replicas).sum()
    }

    fn recreate(&mut self, observed: &Observed) {
        self.number_sets();
        let shrunk = self.scale_down_all_old();
        let old_pods = self
            .pods
            .iter()
            .any(|pod| !pods::is_terminal(pod) && !self.new.as_ref().is_some_and(|new| pod.controlled_by(new.uid())));
        if !shrunk && !old_pods {
            if self.new.is_none() {
                self.create_new(observed.name_taken);
            } else {
                self.scale_new(self.replicas);
            }
        }
        if self.is_complete() {
            self.clean_up();
        }
        self.write_rollout_status();
    }

    fn roll(&mut self, observed: &Observed) {
        self.number_sets();
        if self.new.is_none() {
            self.create_new(observed.name_taken);
        } else if !self.grow_new() {
            self.shrink_old();
        }
        if self.is_complete() {
            self.clean_up();
        }
        self.write_rollout_status();
    }

    fn event(&mut self, reason: &'static str, message: String) -> Event {
        normal(&reference(self.deployment), reason, message)
    }
}

/// How far a rolling update may go above and below the wanted number. Both being zero would never move, so then one
/// pod may be unavailable.
fn limits(deployment: &Deployment, replicas: i32) -> (i32, i32) {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") || replicas == 0 {
        return (0, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
    let surge = rolling.max_surge.map_or(0, |value| scaled_value(&value, replicas, Round::Up));
    let unavailable = rolling.max_unavailable.map_or(0, |value| scaled_value(&value, replicas, Round::Down));
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(replicas)) }
}
