//! Woken by ServiceCIDRs, each of which may hold what another one that is to go holds, and by addresses that are given
//! back.

use client::{Change, Key};
use controllers::meta::Meta as _;
use controllers::service_cidr::{self, Observed};
use controllers::{Failure, Plan};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};

use super::{Built, Setup, built};
use crate::informers::Cache;
use crate::work::{Controller, Work};

struct Shell {
    ranges: Cache<ServiceCIDR>,
    addresses: Cache<IPAddress>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("servicecidrs");
    let going = |ranges: &Cache<ServiceCIDR>, work: &Work| {
        ranges.list().iter().filter(|range| range.deleting()).for_each(|range| work.add(Key::of(range.as_ref())));
    };
    let (ranges, waker) = (setup.caches.service_cidrs.clone(), work.clone());
    setup.informers.service_cidrs.on_change(move |change| {
        waker.add(Key::of(change.object().as_ref()));
        going(&ranges, &waker);
    });
    let (ranges, waker) = (setup.caches.service_cidrs.clone(), work.clone());
    setup.informers.ip_addresses.on_change(move |change| {
        if matches!(change, Change::Deleted(..)) {
            going(&ranges, &waker);
        }
    });
    let shell = Shell { ranges: setup.caches.service_cidrs.clone(), addresses: setup.caches.ip_addresses.clone() };
    built(work, 1, shell)
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, now: Timestamp) -> Plan {
        let Some(range) = self.ranges.get(key) else { return Plan::default() };
        let (ranges, addresses) = (self.ranges.list(), self.addresses.list());
        service_cidr::plan(&range, &Observed { ranges: &ranges, addresses: &addresses }, now)
    }
}
