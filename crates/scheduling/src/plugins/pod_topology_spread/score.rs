//! ScheduleAnyway: the fewer members of the group in a node's domains, the better.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::has_all_keys;
use crate::framework::{Cycle, MAX_NODE_SCORE, Score};
use crate::node::{HOSTNAME_LABEL, NodeInfo};
use crate::pod::SpreadConstraint;

pub struct Spread<'a> {
    cycle: Cycle<'a>,
    constraints: Vec<Weighted>,
    /// Feasible nodes that lack a topology key; they score zero.
    ignored: BTreeSet<Arc<str>>,
}

struct Weighted {
    constraint: SpreadConstraint,
    /// Grows with the number of domains, so that few large domains do not drown many small ones.
    weight: f64,
    /// Members by domain; for hostnames they are counted node by node when scoring.
    counts: HashMap<Box<str>, i64>,
}

impl<'a> Spread<'a> {
    pub fn new(cycle: Cycle<'a>, constraints: Vec<SpreadConstraint>, feasible: &[&NodeInfo], strict: bool) -> Self {
        let qualified = |node: &NodeInfo| !strict || has_all_keys(&constraints, &node.labels);
        let (scored, ignored): (Vec<&NodeInfo>, Vec<&NodeInfo>) = feasible.iter().partition(|n| qualified(n));
        let weigh = |constraint: &SpreadConstraint| {
            let mut counts = domains(constraint, &scored);
            let size = if is_hostname(constraint) { scored.len() } else { counts.len() };
            for node in cycle.snapshot.nodes().iter().filter(|n| qualified(n) && constraint.includes(cycle.pod, n)) {
                let value = node.labels.get(&constraint.topology_key).unwrap_or_default();
                if let Some(count) = counts.get_mut(value) {
                    *count += constraint.count(cycle.pod, node);
                }
            }
            Weighted { constraint: constraint.clone(), weight: ((size + 2) as f64).ln(), counts }
        };
        let ignored = ignored.into_iter().map(|n| n.name.clone()).collect();
        Spread { cycle, constraints: constraints.iter().map(weigh).collect(), ignored }
    }
}

fn is_hostname(constraint: &SpreadConstraint) -> bool {
    &*constraint.topology_key == HOSTNAME_LABEL
}

/// The domains the feasible nodes are in, with nobody counted yet.
fn domains(constraint: &SpreadConstraint, scored: &[&NodeInfo]) -> HashMap<Box<str>, i64> {
    if is_hostname(constraint) {
        return HashMap::new();
    }
    scored.iter().map(|n| (n.labels.get(&constraint.topology_key).unwrap_or_default().into(), 0)).collect()
}

impl Score for Spread<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignored.contains(&node.name) {
            return 0;
        }
        let mut score = 0.0;
        for Weighted { constraint, weight, counts } in &self.constraints {
            let Some(value) = node.labels.get(&constraint.topology_key) else { continue };
            let count = match is_hostname(constraint) {
                true => constraint.count(self.cycle.pod, node),
                false => counts.get(value).copied().unwrap_or(0),
            };
            score += count as f64 * weight + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let counted = scores.iter().zip(nodes).filter(|(_, node)| !self.ignored.contains(&node.name));
        let counted = counted.map(|(score, _)| *score);
        let (min, max) = (counted.clone().min().unwrap_or(0), counted.max().unwrap_or(0));
        for (score, node) in scores.iter_mut().zip(nodes) {
            *score = match (self.ignored.contains(&node.name), max) {
                (true, _) => 0,
                (false, 0) => MAX_NODE_SCORE,
                (false, max) => MAX_NODE_SCORE * (max + min - *score) / max,
            };
        }
    }
}
