//! Woken by Services, the pods behind them, and changes of their slices by others.

use std::sync::Arc;

use client::Key;
use controllers::endpoint_slice::{self, CONTROLLER, MANAGED_BY, Observed, SERVICE_NAME};
use controllers::meta::Meta;
use controllers::{Failure, Plan};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::endpoints::{on_pods, selected};
use super::{Built, Setup, built};
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("endpoint_slice");
    work.on_self(&mut setup.informers.services);
    let waker = work.clone();
    setup.informers.endpoint_slices.on_change(move |change| {
        let slice = change.object();
        if is_ours(slice)
            && let Some(service) = slice.label(SERVICE_NAME)
        {
            waker.add(Key::new(slice.namespace(), service));
        }
    });
    on_pods(setup, &work);
    built(work, setup.flags.concurrent_service_endpoint_syncs, Shell { caches: setup.caches.clone() })
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.label(MANAGED_BY) == Some(CONTROLLER)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let Some(service) = self.caches.services.get(key) else { return Plan::default() };
        let of_service = |slice: &&Arc<EndpointSlice>| is_ours(slice) && slice.label(SERVICE_NAME) == Some(&key.name);
        let mut slices: Vec<Arc<EndpointSlice>> =
            self.caches.endpoint_slices.list_in(&key.namespace).iter().filter(of_service).cloned().collect();
        slices.sort_by(|a, b| a.name().cmp(b.name()));
        let observed = Observed {
            service: &service,
            slices: &slices,
            pods: &selected(&self.caches.pods, &service),
            node: &|name| self.caches.nodes.get(&Key::new("", name)),
        };
        endpoint_slice::plan(&observed)
    }
}
