//! Woken by Endpoints, their Services, and changes of the mirrored slices by others.

use std::sync::Arc;

use client::Key;
use controllers::endpoint_slice::{MANAGED_BY, SERVICE_NAME};
use controllers::endpoint_slice_mirroring::{self, CONTROLLER, Observed};
use controllers::meta::Meta;
use controllers::{Failure, Plan};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Built, Setup, built};
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("endpoint_slice_mirroring");
    work.on_self(&mut setup.informers.endpoints);
    work.on_self(&mut setup.informers.services);
    let waker = work.clone();
    setup.informers.endpoint_slices.on_change(move |change| {
        let slice = change.object();
        if is_ours(slice)
            && let Some(name) = slice.label(SERVICE_NAME)
        {
            waker.add(Key::new(slice.namespace(), name));
        }
    });
    built(work, setup.flags.mirroring_concurrent_service_endpoint_syncs, Shell { caches: setup.caches.clone() })
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.label(MANAGED_BY) == Some(CONTROLLER)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let of_name = |slice: &Arc<EndpointSlice>| is_ours(slice) && slice.label(SERVICE_NAME) == Some(&key.name);
        let mut slices = self.caches.endpoint_slices.list_in(&key.namespace);
        slices.retain(of_name);
        slices.sort_by(|a, b| a.name().cmp(b.name()));
        let (endpoints, service) = (self.caches.endpoints.get(key), self.caches.services.get(key));
        endpoint_slice_mirroring::plan(&Observed {
            endpoints: endpoints.as_deref(),
            service: service.as_deref(),
            slices: &slices,
        })
    }
}
