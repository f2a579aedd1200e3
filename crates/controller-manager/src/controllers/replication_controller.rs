//! Woken by ReplicationControllers and their pods.

use std::sync::Arc;

use client::Key;
use controllers::meta::Meta;
use controllers::replication_controller::{self, Observed};
use controllers::{Failure, Plan, selector};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::Cache;
use crate::work::Controller;

struct Shell {
    controllers: Cache<ReplicationController>,
    indexes: Indexes,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("replicationmanager");
    work.on_self(&mut setup.informers.replication_controllers);
    work.on_owned::<ReplicationController, Pod>(&mut setup.informers.pods);
    let controllers = setup.caches.replication_controllers.clone();
    work.on_orphan(&mut setup.informers.pods, move |pod| {
        let selects = |controller: &&Arc<ReplicationController>| {
            let wanted = controller.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            wanted.is_some_and(|wanted| !wanted.is_empty() && selector::contains(pod.meta().labels.as_ref(), wanted))
        };
        controllers.list_in(pod.namespace()).iter().filter(selects).map(|found| Key::of(found.as_ref())).collect()
    });
    let shell = Shell { controllers: setup.caches.replication_controllers.clone(), indexes: setup.indexes.clone() };
    built(work, setup.flags.concurrent_rc_syncs, shell)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(controller) = self.controllers.get(key) else { return Plan::default() };
        let pods = self.indexes.pods.candidates(controller.uid(), &key.namespace);
        replication_controller::plan(&Observed { controller: &controller, pods: &pods, failure }, now)
    }
}
