//! Replacing the pods of older templates, within maxUnavailable or maxSurge.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::RollingUpdateDaemonSet;
use k8s_openapi::api::core::v1::Pod;

use super::{View, placement};
use crate::meta::{Meta, Round, scaled_value};
use crate::plan::Plan;
use crate::pods;

/// The pods of one node by template; more than one of either is the placement's business first.
struct Pair<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
}

impl<'a> View<'a> {
    fn rolling(&self) -> Option<RollingUpdateDaemonSet> {
        let strategy = self.set.spec.as_ref()?.update_strategy.clone().unwrap_or_default();
        (strategy.type_.as_deref() != Some("OnDelete")).then(|| strategy.rolling_update.unwrap_or_default())
    }

    fn desired(&self) -> i32 {
        let wanted = self.nodes.iter().filter(|node| placement::decide(self.set, node).should_run).count();
        i32::try_from(wanted).unwrap_or(i32::MAX)
    }

    pub(super) fn max_surge(&self) -> i32 {
        let surge = self.rolling().and_then(|rolling| rolling.max_surge);
        surge.map_or(0, |value| scaled_value(&value, self.desired(), Round::Up))
    }

    fn max_unavailable(&self) -> i32 {
        let value = self.rolling().and_then(|rolling| rolling.max_unavailable);
        let count = value.map_or(1, |value| scaled_value(&value, self.desired(), Round::Up));
        if count == 0 && self.max_surge() == 0 { 1 } else { count }
    }

    pub(super) fn update(&mut self, _plan: &mut Plan) {
        if self.rolling().is_none() {
            return;
        }
        if self.max_surge() == 0 { self.replace() } else { self.surge() }
    }

    fn pair(&self, pods: &[&'a Arc<Pod>]) -> Option<Pair<'a>> {
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = pods.iter().copied().partition(|pod| self.updated(pod));
        (new.len() <= 1 && old.len() <= 1).then(|| Pair { new: new.first().copied(), old: old.first().copied() })
    }

    /// Deletes old pods: broken ones at once, others as far as availability allows. Whoever is being deleted,
    /// missing or doubled counts as unavailable.
    fn replace(&mut self) {
        let wanted: Vec<&str> = self
            .nodes
            .iter()
            .filter(|node| placement::decide(self.set, node).should_run)
            .map(|node| node.name())
            .collect();
        let (mut unavailable, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
        for node in &wanted {
            let pods = self.by_node.get(*node).map(Vec::as_slice).unwrap_or_default();
            match self.pair(pods) {
                Some(Pair { new: Some(new), old: None }) => {
                    unavailable += i32::from(!self.available(new) || new.deleting());
                }
                Some(Pair { new: None, old: Some(old) }) if old.deleting() || pods::is_terminal(old) => {
                    // Finished pods are the placement's, which waits between attempts.
                    unavailable += 1;
                }
                Some(Pair { new: None, old: Some(old) }) if !self.available(old) => {
                    unavailable += 1;
                    broken.push(old);
                }
                Some(Pair { new: None, old: Some(old) }) => candidates.push(old),
                _ => unavailable += 1,
            }
        }
        let room = usize::try_from(self.max_unavailable() - unavailable).unwrap_or_default();
        broken.into_iter().chain(candidates.into_iter().take(room)).for_each(|pod| self.changes.delete(pod));
    }

    /// Starts new pods beside the old ones; the placement removes an old pod once its successor is available.
    fn surge(&mut self) {
        let (mut surging, mut urgent, mut candidates) = (0, Vec::new(), Vec::new());
        for node in self.nodes.iter().filter(|node| placement::decide(self.set, node).should_run) {
            let pods = self.by_node.get(node.name()).map(Vec::as_slice).unwrap_or_default();
            match self.pair(pods) {
                None => surging += 1,
                Some(Pair { old: None, .. }) => {}
                Some(Pair { new: Some(new), old: Some(_) }) => surging += i32::from(!self.available(new)),
                Some(Pair { new: None, old: Some(old) }) if !self.available(old) => urgent.push(node.name().to_owned()),
                Some(Pair { new: None, old: Some(_) }) => candidates.push(node.name().to_owned()),
            }
        }
        let room = usize::try_from(self.max_surge() - surging).unwrap_or_default();
        self.changes.create.extend(urgent.into_iter().chain(candidates.into_iter().take(room)));
    }
}
