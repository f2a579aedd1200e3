//! Woken by PodDisruptionBudgets and the pods they cover.

use std::sync::Arc;

use client::{Change, Key};
use controllers::disruption::{self, Observed};
use controllers::meta::Meta;
use controllers::{Failure, Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{Built, Setup, built};
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("disruption");
    work.on_self(&mut setup.informers.budgets);
    let (budgets, waker) = (setup.caches.budgets.clone(), work.clone());
    setup.informers.pods.on_change(move |change| {
        let old = if let Change::Updated { old, .. } = change { Some(old) } else { None };
        let new = change.object();
        let covering = budgets
            .list_in(new.namespace())
            .into_iter()
            .filter(|budget| covers(budget, new) || old.is_some_and(|old| covers(budget, old)));
        covering.for_each(|budget| waker.add(Key::of(budget.as_ref())));
    });
    built(work, 1, Shell { caches: setup.caches.clone() })
}

fn covers(budget: &PodDisruptionBudget, pod: &Arc<Pod>) -> bool {
    let wanted = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::matches(wanted, pod.meta().labels.as_ref()))
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(budget) = self.caches.budgets.get(key) else { return Plan::default() };
        let pods = self.caches.pods.list_in(&key.namespace);
        let scale = |owner: &OwnerReference| self.scale(&key.namespace, owner);
        disruption::plan(&Observed { budget: &budget, pods: &pods, scale: &scale }, now)
    }
}

impl Shell {
    /// The wanted size of a pod's controller; a ReplicaSet of a Deployment counts as the Deployment.
    fn scale(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let key = Key::new(namespace, &owner.name);
        let (uid, replicas) = match owner.kind.as_str() {
            "ReplicaSet" => {
                let set = self.caches.replica_sets.get(&key)?;
                if let Some(parent) = set.controller().filter(|parent| parent.kind == "Deployment") {
                    let deployment = self.caches.deployments.get(&Key::new(namespace, &parent.name))?;
                    return Some((parent.uid.clone(), deployment.spec.as_ref()?.replicas.unwrap_or(1)));
                }
                (set.uid().to_owned(), set.spec.as_ref()?.replicas)
            }
            "ReplicationController" => {
                let controller = self.caches.replication_controllers.get(&key)?;
                (controller.uid().to_owned(), controller.spec.as_ref()?.replicas)
            }
            "StatefulSet" => {
                let set = self.caches.stateful_sets.get(&key)?;
                (set.uid().to_owned(), set.spec.as_ref()?.replicas)
            }
            _ => return None,
        };
        (uid == owner.uid).then(|| (uid, replicas.unwrap_or(1)))
    }
}
