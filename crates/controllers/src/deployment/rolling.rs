//! Moving replicas between the ReplicaSets: proportional scaling, growing the new set, shrinking the old ones.
//!
//! Two bounds hold after every step: never more than replicas + maxSurge pods in total, never fewer than
//! replicas - maxUnavailable available ones by our own doing.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::sets::{DESIRED_REPLICAS, MAX_REPLICAS, available, mark_scale, replicas};
use super::{Rollout, sets};
use crate::meta::Meta;
use crate::plan::Op;

impl Rollout<'_> {
    /// A Deployment was scaled when an active set remembers another wanted number.
    pub(super) fn is_scaling(&self) -> bool {
        self.all().filter(|set| replicas(set) > 0).any(|set| {
            let desired = set.annotation(DESIRED_REPLICAS).and_then(|number| number.parse::<i32>().ok());
            desired.is_some_and(|desired| desired != self.replicas)
        })
    }

    /// How many replicas the new set may have now, given that it has `current`.
    pub(super) fn new_set_replicas(&self, current: i32) -> i32 {
        let recreate = self
            .deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.strategy.as_ref())
            .and_then(|strategy| strategy.type_.as_deref())
            == Some("Recreate");
        if recreate {
            return self.replicas;
        }
        let total = self.total_replicas();
        let room = self.replicas + self.max_surge - total;
        if room <= 0 { current } else { current + room.min(self.replicas - current) }
    }

    /// Grows (or, after a scale down, cuts) the new set to what it may have. Tells whether it changed.
    pub(super) fn grow_new(&mut self) -> bool {
        let Some(current) = self.new.as_ref().map(replicas) else { return false };
        let target = match current.cmp(&self.replicas) {
            std::cmp::Ordering::Equal => current,
            std::cmp::Ordering::Greater => self.replicas,
            std::cmp::Ordering::Less => self.new_set_replicas(current),
        };
        self.scale_new(target)
    }

    pub(super) fn scale_new(&mut self, target: i32) -> bool {
        let Some(set) = self.new.take() else { return false };
        let (set, scaled) = self.scale_set(set, target);
        self.new = Some(set);
        scaled
    }

    /// Writes the set with its new size and the marks of this scale. Tells whether the size changed.
    fn scale_set(&mut self, mut set: ReplicaSet, target: i32) -> (ReplicaSet, bool) {
        let current = replicas(&set);
        let marked = mark_scale(&mut set, self.replicas, self.replicas + self.max_surge);
        if target == current && !marked {
            return (set, false);
        }
        set.spec.get_or_insert_default().replicas = Some(target);
        // An earlier update of the same set in this plan carries the same resourceVersion: this one replaces it.
        self.plan
            .ops
            .retain(|op| !(op.target.name == set.name() && matches!(op.verb, crate::plan::Verb::Update { .. })));
        let mut op = Op::update(&set);
        if target != current {
            let direction = if target > current { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {} from {current} to {target}", set.name());
            op = op.on_success(self.event("ScalingReplicaSet", message));
        }
        self.plan.push(op);
        (set, target != current)
    }

    fn scale_old(&mut self, index: usize, target: i32) -> bool {
        let set = std::mem::take(&mut self.old[index]);
        let (set, scaled) = self.scale_set(set, target);
        self.old[index] = set;
        scaled
    }

    pub(super) fn scale_down_all_old(&mut self) -> bool {
        let active: Vec<usize> = (0..self.old.len()).filter(|index| replicas(&self.old[*index]) > 0).collect();
        active.into_iter().filter(|index| self.scale_old(*index, 0)).count() > 0
    }

    /// Shrinks the old sets: first replicas that are not available anyway, then as many as availability allows.
    pub(super) fn shrink_old(&mut self) -> bool {
        if self.old.iter().all(|set| replicas(set) == 0) {
            return false;
        }
        let Some(new) = &self.new else { return false };
        let min_available = self.replicas - self.max_unavailable;
        let new_unavailable = replicas(new) - available(new);
        let max_down = self.total_replicas() - min_available - new_unavailable;
        if max_down <= 0 {
            return false;
        }
        let cleaned = self.drop_unhealthy(max_down);
        let shrunk = self.drop_healthy(min_available);
        cleaned || shrunk
    }

    fn oldest_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.old.len()).filter(|index| replicas(&self.old[*index]) > 0).collect();
        order.sort_by_key(|index| (self.old[*index].created(), self.old[*index].name().to_owned()));
        order
    }

    fn drop_unhealthy(&mut self, max: i32) -> bool {
        let mut left = max;
        for index in self.oldest_first() {
            let (size, healthy) = (replicas(&self.old[index]), available(&self.old[index]));
            let drop = left.min(size - healthy);
            if drop > 0 {
                self.scale_old(index, size - drop);
                left -= drop;
            }
        }
        left < max
    }

    fn drop_healthy(&mut self, min_available: i32) -> bool {
        let mut left = self.all().map(available).sum::<i32>() - min_available;
        let start = left;
        for index in self.oldest_first() {
            let size = replicas(&self.old[index]);
            let drop = left.min(size);
            if drop > 0 {
                self.scale_old(index, size - drop);
                left -= drop;
            }
        }
        start > 0 && left < start
    }

    /// After the Deployment was scaled: one active set takes it all; a finished rollout empties the old sets; in the
    /// middle of a rolling update every set grows or shrinks by its share, so that the risk stays spread.
    pub(super) fn scale_all(&mut self) {
        if let Some(single) = self.active_or_latest() {
            match single {
                Which::New => self.scale_new(self.replicas),
                Which::Old(index) => self.scale_old(index, self.replicas),
            };
            return;
        }
        let saturated = self.new.as_ref().is_some_and(|new| {
            replicas(new) == self.replicas && desired(new) == Some(self.replicas) && available(new) == self.replicas
        });
        if saturated {
            self.scale_down_all_old();
        } else if self.deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()).and_then(|s| s.type_.as_deref())
            != Some("Recreate")
        {
            self.scale_proportionally();
        }
    }

    fn active_or_latest(&self) -> Option<Which> {
        let active: Vec<usize> = (0..self.old.len()).filter(|index| replicas(&self.old[*index]) > 0).collect();
        let new_active = self.new.as_ref().is_some_and(|new| replicas(new) > 0);
        match (active.as_slice(), new_active) {
            ([], _) if self.new.is_some() => Some(Which::New),
            ([], _) => {
                let latest = (0..self.old.len()).max_by_key(|index| self.old[*index].created())?;
                Some(Which::Old(latest))
            }
            ([index], false) => Some(Which::Old(*index)),
            _ => None,
        }
    }

    fn scale_proportionally(&mut self) {
        let mut members: Vec<Which> =
            (0..self.old.len()).filter(|index| replicas(&self.old[*index]) > 0).map(Which::Old).collect();
        if self.new.as_ref().is_some_and(|new| replicas(new) > 0) {
            members.push(Which::New);
        }
        let total: i32 = members.iter().map(|which| replicas(self.set(*which))).sum();
        let allowed = if self.replicas > 0 { self.replicas + self.max_surge } else { 0 };
        let to_add = allowed - total;
        // Bigger sets first; among equals the newest grow first and the oldest shrink first.
        members.sort_by(|a, b| {
            let (a, b) = (self.set(*a), self.set(*b));
            let by_age = a.created().cmp(&b.created());
            replicas(b).cmp(&replicas(a)).then(if to_add > 0 { by_age.reverse() } else { by_age })
        });
        let mut added = 0;
        let mut sizes = Vec::with_capacity(members.len());
        for which in &members {
            let share = if to_add == 0 { 0 } else { self.share(self.set(*which), to_add, added) };
            sizes.push(replicas(self.set(*which)) + share);
            added += share;
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (which, size) in members.into_iter().zip(sizes) {
            match which {
                Which::New => self.scale_new(size),
                Which::Old(index) => self.scale_old(index, size),
            };
        }
    }

    fn set(&self, which: Which) -> &ReplicaSet {
        match which {
            Which::New => self.new.as_ref().expect("only chosen when there is one"),
            Which::Old(index) => &self.old[index],
        }
    }

    fn share(&self, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
        let size = replicas(set);
        if size == 0 || to_add == added {
            return 0;
        }
        let fraction = self.fraction(set, size);
        let allowed = to_add - added;
        if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
    }

    fn fraction(&self, set: &ReplicaSet, size: i32) -> i32 {
        if self.replicas == 0 {
            return -size;
        }
        let before = set
            .annotation(MAX_REPLICAS)
            .and_then(|number| number.parse::<i32>().ok())
            .or(self.status.replicas)
            .filter(|count| *count > 0)
            .unwrap_or(self.replicas);
        let scaled = f64::from(size) * f64::from(self.replicas + self.max_surge) / f64::from(before);
        scaled.round() as i32 - size
    }
}

fn desired(set: &ReplicaSet) -> Option<i32> {
    set.annotation(sets::DESIRED_REPLICAS)?.parse().ok()
}

#[derive(Clone, Copy)]
enum Which {
    New,
    Old(usize),
}
