//! Woken by DaemonSets, their pods and revisions, and by what makes a node fit or unfit.

use std::sync::Arc;

use client::{Change, Key};
use controllers::backoff::Backoff;
use controllers::daemon_set::{self, Observed};
use controllers::meta::Meta;
use controllers::{Failure, Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
    indexes: Indexes,
    backoff: Mutex<Backoff>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("daemonset");
    work.on_self(&mut setup.informers.daemon_sets);
    work.on_owned::<DaemonSet, Pod>(&mut setup.informers.pods);
    work.on_owned::<DaemonSet, ControllerRevision>(&mut setup.informers.controller_revisions);
    let sets = setup.caches.daemon_sets.clone();
    work.on_orphan(&mut setup.informers.pods, move |pod| {
        let selects = |set: &&Arc<DaemonSet>| {
            set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.meta().labels.as_ref()))
        };
        sets.list_in(pod.namespace()).iter().filter(selects).map(|set| Key::of(set.as_ref())).collect()
    });
    let (sets, waker) = (setup.caches.daemon_sets.clone(), work.clone());
    setup.informers.nodes.on_change(move |change| {
        if matters(change) {
            sets.list().iter().for_each(|set| waker.add(Key::of(set.as_ref())));
        }
    });
    let backoff = Mutex::new(daemon_set::new_backoff());
    built(work, 2, Shell { caches: setup.caches.clone(), indexes: setup.indexes.clone(), backoff })
}

/// Heartbeats change nodes all the time; only labels and taints decide where daemons run.
fn matters(change: &Change<Node>) -> bool {
    let Change::Updated { old, new } = change else { return true };
    let spec = |node: &Node| node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable));
    old.meta().labels != new.meta().labels || spec(old) != spec(new)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(set) = self.caches.daemon_sets.get(key) else { return Plan::default() };
        let name_taken = |name: &str| self.caches.controller_revisions.get(&Key::new(&key.namespace, name)).is_some();
        let observed = Observed {
            set: &set,
            nodes: &self.caches.nodes.list(),
            pods: &self.indexes.pods.candidates(set.uid(), &key.namespace),
            revisions: &self.indexes.revisions.candidates(set.uid(), &key.namespace),
            name_taken: &name_taken,
        };
        daemon_set::plan(&observed, &mut self.backoff.lock(), now)
    }
}
