//! Rolling a StatefulSet to a new template, from the highest ordinal down to the partition.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::RollingUpdateStatefulSetStrategy;
use k8s_openapi::api::core::v1::Pod;

use super::{Health, View, identity};
use crate::meta::{Meta, Round, scaled_value};
use crate::plan::Plan;
use crate::revision::{self, HASH_LABEL};

impl View<'_> {
    pub(super) fn rolls(&self) -> bool {
        self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn rolling(&self) -> RollingUpdateStatefulSetStrategy {
        let strategy = self.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default()
    }

    /// The lowest ordinal that gets the new template.
    fn first_updated(&self) -> i32 {
        identity::ordinals(self.spec).start.saturating_add(self.rolling().partition.unwrap_or_default())
    }

    fn max_unavailable(&self) -> usize {
        let replicas = self.spec.replicas.unwrap_or(1);
        let count = self.rolling().max_unavailable.map_or(1, |value| scaled_value(&value, replicas, Round::Down));
        usize::try_from(count).unwrap_or_default().max(1)
    }

    /// Below the partition a lost pod comes back as it was.
    pub(super) fn pod_for(&self, ordinal: i32) -> Pod {
        let old = self.rolls() && ordinal < self.first_updated();
        let template = if old { revision::template_of(&self.current) } else { None };
        match template {
            Some(template) => identity::pod(self.set, &template, self.current.name(), ordinal),
            None => identity::pod(self.set, &self.spec.template, self.update.name(), ordinal),
        }
    }

    pub(super) fn roll(&self, plan: &mut Plan) {
        if !self.rolls() {
            return;
        }
        let broken = |pod: &Pod| self.health(pod) != Health::Available;
        let unavailable = self.replicas.values().filter(|pod| broken(pod)).count();
        let missing = identity::ordinals(self.spec).len() - self.replicas.len();
        let mut room = self.max_unavailable().saturating_sub(unavailable + missing);
        for (_, pod) in self.replicas.range(self.first_updated()..).rev() {
            if self.is_updated(pod) || pod.deleting() {
                continue;
            }
            // A broken old pod is unavailable already; replacing it costs nothing.
            if !broken(pod) {
                if room == 0 {
                    return;
                }
                room -= 1;
            }
            plan.push(self.deletion(pod));
        }
    }

    fn is_updated(&self, pod: &Arc<Pod>) -> bool {
        pod.label(HASH_LABEL) == Some(self.update.name())
    }
}
