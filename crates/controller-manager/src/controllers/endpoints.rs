//! Woken by Services, the pods behind them, and changes of Endpoints by others.

use std::sync::Arc;

use client::{Change, Key};
use controllers::endpoints::{self, Observed};
use controllers::meta::Meta;
use controllers::{Failure, Plan, pods, service_pods};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};

use super::{Built, Setup, built};
use crate::informers::{Cache, Caches};
use crate::work::{Controller, Work};

struct Shell {
    caches: Caches,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("endpoint");
    work.on_self(&mut setup.informers.services);
    work.on_self(&mut setup.informers.endpoints);
    on_pods(setup, &work);
    built(work, setup.flags.concurrent_endpoint_syncs, Shell { caches: setup.caches.clone() })
}

/// Pods wake the Services that select them, before or after the change.
pub fn on_pods(setup: &mut Setup, work: &Work) {
    let (services, waker) = (setup.caches.services.clone(), work.clone());
    setup.informers.pods.on_change(move |change| {
        if !matters(change) {
            return;
        }
        let old = if let Change::Updated { old, .. } = change { Some(old) } else { None };
        let new = change.object();
        let selecting = services.list_in(new.namespace()).into_iter().filter(|service| {
            service_pods::selects(service, new) || old.is_some_and(|old| service_pods::selects(service, old))
        });
        selecting.for_each(|service| waker.add(Key::of(service.as_ref())));
    });
}

/// Of all that changes in a pod, little shows in its endpoint.
fn matters(change: &Change<Pod>) -> bool {
    let Change::Updated { old, new } = change else { return true };
    let facts = |pod: &Pod| {
        let addresses: Vec<String> = service_pods::addresses(pod).into_iter().map(str::to_owned).collect();
        (addresses, pods::is_ready(pod), pods::is_terminal(pod), pod.deleting(), pods::node_name(pod).to_owned())
    };
    old.meta().labels != new.meta().labels || facts(old) != facts(new)
}

pub fn selected(pods: &Cache<Pod>, service: &Service) -> Vec<Arc<Pod>> {
    let all = pods.list_in(service.namespace());
    let mut selected: Vec<Arc<Pod>> = all.into_iter().filter(|pod| service_pods::selects(service, pod)).collect();
    selected.sort_by(|a, b| a.name().cmp(b.name()));
    selected
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let service = self.caches.services.get(key);
        let pods = service.as_ref().map(|service| selected(&self.caches.pods, service)).unwrap_or_default();
        let endpoints = self.caches.endpoints.get(key);
        endpoints::plan(&Observed { service: service.as_deref(), endpoints: endpoints.as_deref(), pods: &pods })
    }
}
