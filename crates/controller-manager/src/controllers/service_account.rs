//! Woken by namespaces, and by the end of a `default` ServiceAccount.

use client::{Change, Key};
use controllers::meta::Meta;
use controllers::service_account::{self, DEFAULT_ACCOUNT};
use controllers::{Failure, Plan};
use jiff::Timestamp;

use super::{Built, Setup, built};
use crate::informers::Caches;
use crate::work::Controller;

struct Shell {
    caches: Caches,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("serviceaccount");
    work.on_self(&mut setup.informers.namespaces);
    let waker = work.clone();
    setup.informers.service_accounts.on_change(move |change| {
        if let Change::Deleted(account) = change
            && account.name() == DEFAULT_ACCOUNT
        {
            waker.add(Key::new("", account.namespace()));
        }
    });
    built(work, 1, Shell { caches: setup.caches.clone() })
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let Some(namespace) = self.caches.namespaces.get(key) else { return Plan::default() };
        let exists = self.caches.service_accounts.get(&Key::new(&key.name, DEFAULT_ACCOUNT)).is_some();
        service_account::plan_account(&namespace, exists)
    }
}
