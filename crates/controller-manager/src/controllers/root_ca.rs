//! Woken by namespaces, and by changes of a `kube-root-ca.crt` ConfigMap.

use client::Key;
use controllers::meta::Meta;
use controllers::service_account::{self, ROOT_CA};
use controllers::{Failure, Plan};
use jiff::Timestamp;

use super::{Built, Setup, built};
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
    pem: Option<String>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("root_ca_cert_publisher");
    work.on_self(&mut setup.informers.namespaces);
    let waker = work.clone();
    setup.informers.config_maps.on_change(move |change| waker.add(Key::new("", change.object().namespace())));
    built(work, 1, Shell { caches: setup.caches.clone(), pem: setup.flags.root_ca.clone() })
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let (Some(namespace), Some(pem)) = (self.caches.namespaces.get(key), &self.pem) else {
            return Plan::default();
        };
        let current = self.caches.config_maps.get(&Key::new(&key.name, ROOT_CA));
        service_account::plan_root_ca(&namespace, current.as_deref(), pem)
    }
}
