//! Woken by Deployments, their ReplicaSets, and with `Recreate` by the end of their pods.

use std::sync::Arc;

use client::{Change, Key};
use controllers::deployment::{self, Observed};
use controllers::meta::Meta;
use controllers::{Failure, Plan, pods, selector};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::{Cache, Caches};
use crate::work::{Controller, owner_key};

struct Shell {
    caches: Caches,
    indexes: Indexes,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("deployment");
    work.on_self(&mut setup.informers.deployments);
    work.on_owned::<Deployment, ReplicaSet>(&mut setup.informers.replica_sets);
    let deployments = setup.caches.deployments.clone();
    work.on_orphan(&mut setup.informers.replica_sets, move |set| adopters(&deployments, set));
    let (caches, waker) = (setup.caches.clone(), work.clone());
    setup.informers.pods.on_change(move |change| {
        if ended(change)
            && let Some(key) = waiting_for(&caches, change.object())
        {
            waker.add(key);
        }
    });
    let shell = Shell { caches: setup.caches.clone(), indexes: setup.indexes.clone() };
    built(work, setup.flags.concurrent_deployment_syncs, shell)
}

fn adopters(deployments: &Cache<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    let selects = |deployment: &&Arc<Deployment>| {
        deployment.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, set.meta().labels.as_ref()))
    };
    deployments.list_in(set.namespace()).iter().filter(selects).map(|deployment| Key::of(deployment.as_ref())).collect()
}

fn ended(change: &Change<Pod>) -> bool {
    match change {
        Change::Deleted(_) => true,
        Change::Updated { old, new } => !pods::is_terminal(old) && pods::is_terminal(new),
        Change::Added(_) => false,
    }
}

/// The Deployment that starts new pods only after this one's end.
fn waiting_for(caches: &Caches, pod: &Pod) -> Option<Key> {
    let set = caches.replica_sets.get(&owner_key::<ReplicaSet, Pod>(pod)?)?;
    let key = owner_key::<Deployment, ReplicaSet>(&set)?;
    let deployment = caches.deployments.get(&key)?;
    let strategy = deployment.spec.as_ref()?.strategy.as_ref()?.type_.as_deref()?;
    (strategy == "Recreate").then_some(key)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(deployment) = self.caches.deployments.get(key) else { return Plan::default() };
        let sets = self.indexes.replica_sets.candidates(deployment.uid(), &key.namespace);
        let owned = sets.iter().filter(|set| set.controlled_by(deployment.uid()));
        let pods: Vec<Arc<Pod>> = owned.flat_map(|set| self.indexes.pods.of(set.uid())).collect();
        let name_taken = |name: &str| self.caches.replica_sets.get(&Key::new(&key.namespace, name)).is_some();
        let observed = Observed { deployment: &deployment, sets: &sets, pods: &pods, name_taken: &name_taken, failure };
        deployment::plan(&observed, now)
    }
}
