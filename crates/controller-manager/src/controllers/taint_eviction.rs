//! Woken by taints of nodes and by pods that arrive on tainted ones.

use std::collections::HashMap;

use client::{Change, Key};
use controllers::taint_eviction::{self, Waiting};
use controllers::{Failure, Plan, pods};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
    indexes: Indexes,
    waiting: Mutex<HashMap<String, Waiting>>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("noexec_taint_node");
    let waker = work.clone();
    setup.informers.nodes.on_change(move |change| {
        let matters = match change {
            Change::Added(node) => drives_out(node),
            Change::Updated { old, new } => drives_out(old) || drives_out(new),
            Change::Deleted(_) => true,
        };
        if matters {
            waker.add(Key::of(change.object().as_ref()));
        }
    });
    let (nodes, waker) = (setup.caches.nodes.clone(), work.clone());
    setup.informers.pods.on_change(move |change| {
        let key = Key::new("", pods::node_name(change.object()));
        if nodes.get(&key).is_some_and(|node| drives_out(&node)) {
            waker.add(key);
        }
    });
    let (caches, indexes) = (setup.caches.clone(), setup.indexes.clone());
    built(work, 4, Shell { caches, indexes, waiting: Mutex::default() })
}

fn drives_out(node: &Node) -> bool {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.effect == "NoExecute")
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(node) = self.caches.nodes.get(key) else {
            self.waiting.lock().remove(&key.name);
            return Plan::default();
        };
        let pods = self.indexes.pods_by_node.get(&key.name);
        let mut waiting = self.waiting.lock().remove(&key.name).unwrap_or_default();
        waiting.retain(|uid, _| pods.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid)));
        let plan = taint_eviction::plan(&node, &pods, &mut waiting, now);
        if !waiting.is_empty() {
            self.waiting.lock().insert(key.name.clone(), waiting);
        }
        plan
    }
}
