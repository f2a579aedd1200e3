//! DoNotSchedule: no domain may exceed the emptiest by more than maxSkew.

use std::collections::HashMap;

use super::has_all_keys;
use crate::framework::{Cycle, Filter, Rejection};
use crate::node::NodeInfo;
use crate::pod::{PodInfo, SpreadConstraint};

/// The members of the group in every domain, per constraint.
///
/// Invariant: `min` is the least of `counts`; it is brought up to date whenever a count changes.
pub struct Domains<'a> {
    cycle: Cycle<'a>,
    constraints: Vec<SpreadConstraint>,
    domains: Vec<Counts>,
}

#[derive(Default)]
struct Counts {
    counts: HashMap<Box<str>, i64>,
    min: i64,
}

impl Counts {
    fn add(&mut self, value: &str, delta: i64) {
        match self.counts.get_mut(value) {
            Some(count) => *count += delta,
            None => {
                self.counts.insert(value.into(), delta);
            }
        }
    }

    fn settle(&mut self) {
        self.min = self.counts.values().copied().min().unwrap_or(0);
    }
}

impl<'a> Domains<'a> {
    pub fn new(cycle: Cycle<'a>, constraints: Vec<SpreadConstraint>) -> Self {
        let mut domains: Vec<Counts> = constraints.iter().map(|_| Counts::default()).collect();
        for node in cycle.snapshot.nodes().iter().filter(|n| has_all_keys(&constraints, &n.labels)) {
            for (constraint, domain) in constraints.iter().zip(&mut domains) {
                if let Some(value) = node.labels.get(&constraint.topology_key)
                    && constraint.includes(cycle.pod, node)
                {
                    domain.add(value, constraint.count(cycle.pod, node));
                }
            }
        }
        domains.iter_mut().for_each(Counts::settle);
        Domains { cycle, constraints, domains }
    }

    fn suppose(&mut self, other: &PodInfo, node: &NodeInfo, delta: i64) {
        if !has_all_keys(&self.constraints, &node.labels) {
            return;
        }
        let pod = self.cycle.pod;
        for (constraint, domain) in self.constraints.iter().zip(&mut self.domains) {
            if let Some(value) = node.labels.get(&constraint.topology_key)
                && constraint.covers(pod, other)
                && constraint.includes(pod, node)
            {
                domain.add(value, delta);
                domain.settle();
            }
        }
    }
}

impl Filter for Domains<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for (constraint, domain) in self.constraints.iter().zip(&self.domains) {
            let Some(value) = node.labels.get(&constraint.topology_key) else {
                let text = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::unresolvable(text));
            };
            let own = i64::from(constraint.selector.matches(&self.cycle.pod.labels));
            let too_few = (domain.counts.len() as i64) < constraint.min_domains;
            let least = if too_few { 0 } else { domain.min };
            let here = domain.counts.get(value).copied().unwrap_or(0);
            if here + own - least > constraint.max_skew {
                return Err(Rejection::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.suppose(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.suppose(pod, node, -1);
    }
}
