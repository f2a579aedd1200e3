//! Woken by nodes. One worker: shares are handed out one after the other.

use client::Key;
use controllers::node_ipam::{self, Observed, Pool, Reserved};
use controllers::{Failure, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;

use super::{Built, Setup, built};
use crate::informers::Cache;
use crate::work::Controller;

struct Shell {
    nodes: Cache<Node>,
    pools: Vec<Pool>,
    reserved: Mutex<Reserved>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("node_ipam");
    let pools = setup.flags.pools.clone();
    if !pools.is_empty() {
        work.on_self(&mut setup.informers.nodes);
    }
    built(work, 1, Shell { nodes: setup.caches.nodes.clone(), pools, reserved: Mutex::default() })
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let Some(node) = self.nodes.get(key) else { return Plan::default() };
        let observed = Observed { node: &node, nodes: &self.nodes.list(), pools: &self.pools };
        node_ipam::plan(&observed, &mut self.reserved.lock())
    }
}
