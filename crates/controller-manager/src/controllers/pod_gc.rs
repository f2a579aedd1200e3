//! Woken, a little later, by pods that ended, pods nobody runs, and nodes that went.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Change, Key};
use controllers::meta::Meta;
use controllers::pod_gc::{self, Observed, QUARANTINE};
use controllers::{Failure, Plan, pods};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::{Built, Setup, built};
use crate::informers::Caches;
use crate::work::Controller;

/// Many pods end together; one look serves them all.
const GATHER: Duration = Duration::from_secs(5);

struct Shell {
    caches: Caches,
    threshold: i32,
    /// Nodes that pods name and nobody knows, since when.
    missing: Mutex<HashMap<String, Timestamp>>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("podgc");
    let (waker, nodes) = (work.clone(), setup.caches.nodes.clone());
    setup.informers.pods.on_change(move |change| {
        let pod = change.object();
        let node = pods::node_name(pod);
        let lost = !node.is_empty() && nodes.get(&Key::new("", node)).is_none();
        let stuck = pod.deleting() && node.is_empty();
        if !matches!(change, Change::Deleted(_)) && (lost || stuck || pods::is_terminal(pod)) {
            waker.add_after(Key::default(), GATHER);
        }
    });
    let waker = work.clone();
    setup.informers.nodes.on_change(move |change| {
        let tainted = change
            .object()
            .spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten())
            .any(|taint| taint.key == "node.kubernetes.io/out-of-service");
        if matches!(change, Change::Deleted(_)) || tainted {
            waker.add_after(Key::default(), GATHER);
        }
    });
    let (caches, threshold) = (setup.caches.clone(), setup.flags.terminated_pod_gc_threshold);
    built(work, 1, Shell { caches, threshold, missing: Mutex::default() })
}

impl Controller for Shell {
    fn plan(&self, _key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let all = self.caches.pods.list();
        let missing = self.track_missing(&all, now);
        let observed = Observed {
            pods: &all,
            node: &|name| self.caches.nodes.get(&Key::new("", name)),
            long_gone: &|name| missing.get(name).is_some_and(|since| now.duration_since(*since) >= quarantine()),
            terminated_threshold: self.threshold,
        };
        let mut plan = pod_gc::plan(&observed, now);
        let waits =
            missing.values().filter_map(|since| since.checked_add(QUARANTINE).ok()).filter(|at| *at > now).min();
        if let Some(at) = waits {
            plan.requeue_at(at, now);
        }
        plan
    }
}

fn quarantine() -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(QUARANTINE).unwrap_or(jiff::SignedDuration::MAX)
}

impl Shell {
    fn track_missing(&self, all: &[Arc<Pod>], now: Timestamp) -> HashMap<String, Timestamp> {
        let mut missing = self.missing.lock();
        let known = |name: &str| name.is_empty() || self.caches.nodes.get(&Key::new("", name)).is_some();
        let named: HashMap<String, Timestamp> = all
            .iter()
            .map(|pod| pods::node_name(pod))
            .filter(|name| !known(name))
            .map(|name| (name.to_owned(), missing.get(name).copied().unwrap_or(now)))
            .collect();
        missing.clone_from(&named);
        named
    }
}
