//! Woken by StatefulSets, their pods and revisions.

use std::sync::Arc;

use client::Key;
use controllers::meta::Meta;
use controllers::stateful_set::{self, Observed};
use controllers::{Failure, Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::Pod;

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
    indexes: Indexes,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("statefulset");
    work.on_self(&mut setup.informers.stateful_sets);
    work.on_owned::<StatefulSet, Pod>(&mut setup.informers.pods);
    work.on_owned::<StatefulSet, ControllerRevision>(&mut setup.informers.controller_revisions);
    let sets = setup.caches.stateful_sets.clone();
    work.on_orphan(&mut setup.informers.pods, move |pod| {
        let selects = |set: &&Arc<StatefulSet>| {
            set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.meta().labels.as_ref()))
        };
        sets.list_in(pod.namespace()).iter().filter(selects).map(|set| Key::of(set.as_ref())).collect()
    });
    let shell = Shell { caches: setup.caches.clone(), indexes: setup.indexes.clone() };
    built(work, setup.flags.concurrent_statefulset_syncs, shell)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(set) = self.caches.stateful_sets.get(key) else { return Plan::default() };
        let in_namespace = |name: &str| Key::new(&key.namespace, name);
        let observed = Observed {
            set: &set,
            pods: &self.indexes.pods.candidates(set.uid(), &key.namespace),
            revisions: &self.indexes.revisions.candidates(set.uid(), &key.namespace),
            name_taken: &|name| self.caches.controller_revisions.get(&in_namespace(name)).is_some(),
            claim_exists: &|name| self.caches.claims.get(&in_namespace(name)).is_some(),
        };
        stateful_set::plan(&observed, now)
    }
}
