//! Woken by ReplicaSets and their pods.

use std::sync::Arc;

use client::Key;
use controllers::meta::Meta;
use controllers::replica_set::{self, Observed};
use controllers::{Failure, Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::Cache;
use crate::work::Controller;

struct Shell {
    sets: Cache<ReplicaSet>,
    indexes: Indexes,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("replicaset");
    work.on_self(&mut setup.informers.replica_sets);
    work.on_owned::<ReplicaSet, Pod>(&mut setup.informers.pods);
    let sets = setup.caches.replica_sets.clone();
    work.on_orphan(&mut setup.informers.pods, move |pod| {
        let selects = |set: &&Arc<ReplicaSet>| {
            set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.meta().labels.as_ref()))
        };
        sets.list_in(pod.namespace()).iter().filter(selects).map(|set| Key::of(set.as_ref())).collect()
    });
    let shell = Shell { sets: setup.caches.replica_sets.clone(), indexes: setup.indexes.clone() };
    built(work, setup.flags.concurrent_replicaset_syncs, shell)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(set) = self.sets.get(key) else { return Plan::default() };
        let pods = self.indexes.pods.candidates(set.uid(), &key.namespace);
        // Only a scale down ranks pods by their neighbours.
        let shrinks =
            pods.len() > usize::try_from(set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)).unwrap_or(0);
        let related: Vec<Arc<Pod>> = match set.controller().filter(|_| shrinks) {
            Some(owner) => {
                let siblings = self.indexes.replica_sets.of(&owner.uid);
                siblings.iter().flat_map(|sibling| self.indexes.pods.of(sibling.uid())).collect()
            }
            None => self.indexes.pods.of(set.uid()),
        };
        replica_set::plan(&Observed { set: &set, pods: &pods, related: &related, failure }, now)
    }
}
