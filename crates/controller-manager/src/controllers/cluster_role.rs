//! Woken by ClusterRoles: each may be part of any aggregated one.

use client::Key;
use controllers::{Failure, Plan, cluster_role};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRole;

use super::{Built, Setup, built};
use crate::informers::Cache;
use crate::work::Controller;

struct Shell {
    roles: Cache<ClusterRole>,
}

pub fn build(setup: &mut Setup) -> Built {
    let work = setup.work("ClusterRoleAggregator");
    let (roles, waker) = (setup.caches.cluster_roles.clone(), work.clone());
    setup.informers.cluster_roles.on_change(move |_| {
        let aggregated = roles.list().into_iter().filter(|role| role.aggregation_rule.is_some());
        aggregated.for_each(|role| waker.add(Key::of(role.as_ref())));
    });
    built(work, 1, Shell { roles: setup.caches.cluster_roles.clone() })
}

impl Controller for Shell {
    fn plan(&self, key: &Key, _failure: Option<&Failure>, _now: Timestamp) -> Plan {
        let Some(role) = self.roles.get(key) else { return Plan::default() };
        cluster_role::plan(&role, &self.roles.list())
    }
}
