//! Woken by nodes, their Leases, and the clock when one falls silent.

use std::collections::HashMap;

use client::{Change, Key};
use controllers::node_lifecycle::{self, Config, Heartbeat, Observed, is_ready};
use controllers::{Failure, Plan};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Built, Setup, built};
use crate::index::Indexes;
use crate::informers::{Caches, NODE_LEASES};
use crate::work::Controller;

struct Shell {
    caches: Caches,
    indexes: Indexes,
    config: Config,
    heartbeats: Mutex<HashMap<String, Heartbeat>>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("node_lifecycle_controller");
    work.on_self(&mut setup.informers.nodes);
    let waker = work.clone();
    setup.informers.leases.on_change(move |change| waker.add(Key::new("", &Key::of(change.object().as_ref()).name)));
    // When the first node comes back or the last goes silent, the others are judged differently.
    let (nodes, waker) = (setup.caches.nodes.clone(), work.clone());
    setup.informers.nodes.on_change(move |change| {
        if let Change::Updated { old, new } = change
            && is_ready(old) != is_ready(new)
        {
            nodes.list().iter().for_each(|node| waker.add(Key::of(node.as_ref())));
        }
    });
    let config =
        Config { grace: setup.flags.node_monitor_grace_period, startup_grace: setup.flags.node_startup_grace_period };
    let (caches, indexes) = (setup.caches.clone(), setup.indexes.clone());
    built(work, 4, Shell { caches, indexes, config, heartbeats: Mutex::default() })
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(node) = self.caches.nodes.get(key) else {
            self.heartbeats.lock().remove(&key.name);
            return Plan::default();
        };
        let lease = self.caches.leases.get(&Key::new(NODE_LEASES, &key.name));
        let pods = if is_ready(&node) { Vec::new() } else { self.indexes.pods_by_node.get(&key.name) };
        let all_silent = !is_ready(&node) && !self.caches.nodes.list().iter().any(|node| is_ready(node));
        let observed = Observed { node: &node, lease: lease.as_deref(), pods: &pods, all_silent };
        let mut heartbeat = self.heartbeats.lock().remove(&key.name);
        let plan = node_lifecycle::plan(&observed, &mut heartbeat, &self.config, now);
        self.heartbeats.lock().extend(heartbeat.map(|beat| (key.name.clone(), beat)));
        plan
    }
}
