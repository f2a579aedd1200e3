//! PodTopologySpread: keep the pods of a group evenly over domains, as a rule or as a preference.

mod filter;
mod score;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;
use serde_json::Value;

use super::{ArgsError, parse};
use crate::event::Event;
use crate::framework::{Cycle, Plugin, PreFilter, Score};
use crate::labels::Labels;
use crate::node::{HOSTNAME_LABEL, NodeInfo, ZONE_LABEL};
use crate::pod::{PodInfo, SpreadConstraint};
use crate::selector::Selector;
use crate::snapshot::Snapshot;
use crate::taints::untolerated;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Args {
    default_constraints: Vec<core::TopologySpreadConstraint>,
    defaulting_type: Option<DefaultingType>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
enum DefaultingType {
    System,
    List,
}

struct PodTopologySpread {
    /// What holds for pods that state no constraints; selectors are filled in from what owns the pod.
    defaults: Vec<SpreadConstraint>,
    system_defaulted: bool,
}

pub fn build(args: &Value) -> Result<Box<dyn Plugin>, ArgsError> {
    let args: Args = parse(args)?;
    if args.defaulting_type == Some(DefaultingType::List) {
        return listed(&args.default_constraints);
    }
    if !args.default_constraints.is_empty() {
        let text = "defaultConstraints: Invalid value: when .defaultingType is System, must be empty";
        return Err(ArgsError::Invalid(text.into()));
    }
    let defaults = vec![system_default(HOSTNAME_LABEL, 3), system_default(ZONE_LABEL, 5)];
    Ok(Box::new(PodTopologySpread { defaults, system_defaulted: true }))
}

fn listed(constraints: &[core::TopologySpreadConstraint]) -> Result<Box<dyn Plugin>, ArgsError> {
    let constraint = |c: &core::TopologySpreadConstraint| SpreadConstraint {
        max_skew: i64::from(c.max_skew),
        hard: c.when_unsatisfiable == "DoNotSchedule",
        min_domains: i64::from(c.min_domains.unwrap_or(1)),
        ..system_default(&c.topology_key, 1)
    };
    let invalid = |c: &core::TopologySpreadConstraint| {
        c.max_skew <= 0
            || c.topology_key.is_empty()
            || c.label_selector.is_some()
            || !["DoNotSchedule", "ScheduleAnyway"].contains(&c.when_unsatisfiable.as_str())
    };
    if constraints.iter().any(invalid) {
        let text = "defaultConstraints: need a positive maxSkew, a topologyKey, a valid whenUnsatisfiable and no labelSelector";
        return Err(ArgsError::Invalid(text.into()));
    }
    Ok(Box::new(PodTopologySpread { defaults: constraints.iter().map(constraint).collect(), system_defaulted: false }))
}

fn system_default(key: &str, max_skew: i64) -> SpreadConstraint {
    SpreadConstraint {
        max_skew,
        topology_key: key.into(),
        hard: false,
        selector: Selector::nothing(),
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    }
}

impl PodTopologySpread {
    fn constraints(&self, cycle: Cycle<'_>, hard: bool) -> Vec<SpreadConstraint> {
        let pod = cycle.pod;
        if !pod.spread.is_empty() {
            return pod.spread.iter().filter(|c| c.hard == hard).cloned().collect();
        }
        let mut defaults = self.defaults.iter().filter(|c| c.hard == hard).peekable();
        if defaults.peek().is_none() {
            return Vec::new();
        }
        let selector = default_selector(cycle.snapshot, pod);
        if selector.is_everything() {
            return Vec::new();
        }
        defaults.map(|c| SpreadConstraint { selector: selector.clone(), ..c.clone() }).collect()
    }
}

/// Selects the pod's peers: through the Services that select it and the controller that owns it.
fn default_selector(snapshot: &Snapshot, pod: &PodInfo) -> Selector {
    let from = (pod.namespace.clone(), "".into());
    let services = snapshot.services.range(from..).take_while(|((namespace, _), _)| *namespace == pod.namespace);
    let selecting = services.map(|(_, selector)| selector).filter(|selector| selects(selector, &pod.labels));
    let merged = Selector::equal_to(selecting.flat_map(|labels| labels.iter()));
    let owner = pod.owner.as_ref();
    match owner.and_then(|owner| snapshot.workloads.get(&(pod.namespace.clone(), owner.clone()))) {
        Some(own) => merged.both(own),
        None => merged,
    }
}

/// A Service without a selector selects nothing.
fn selects(service: &Labels, labels: &Labels) -> bool {
    !service.is_empty() && service.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl SpreadConstraint {
    /// Whether the node counts for this constraint at all.
    fn includes(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        (!self.honor_affinity || pod.admits_node(&node.name, &node.labels))
            && (!self.honor_taints || untolerated(&node.taints, &pod.tolerations).is_none())
    }

    /// The pods on the node that belong to the group. Those on their way out do not count.
    fn count(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        node.pods.iter().filter(|other| self.covers(pod, other)).count() as i64
    }

    fn covers(&self, pod: &PodInfo, other: &PodInfo) -> bool {
        !self.selector.is_everything()
            && !other.terminating
            && other.namespace == pod.namespace
            && self.selector.matches(&other.labels)
    }
}

fn has_all_keys(constraints: &[SpreadConstraint], labels: &Labels) -> bool {
    constraints.iter().all(|c| labels.contains(&c.topology_key))
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let constraints = self.constraints(cycle, true);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Check(Box::new(filter::Domains::new(cycle, constraints)))
    }

    fn pre_score<'a>(&'a self, cycle: Cycle<'a>, feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let constraints = self.constraints(cycle, false);
        if constraints.is_empty() {
            return None;
        }
        let strict = !cycle.pod.spread.is_empty() || !self.system_defaulted;
        Some(Box::new(score::Spread::new(cycle, constraints, feasible, strict)))
    }

    fn hint(&self, pod: &PodInfo, event: Event<'_>) -> bool {
        let concerns = |other: &PodInfo| {
            let matches = |c: &SpreadConstraint| c.hard && c.selector.matches(&other.labels);
            pod.namespace == other.namespace && (pod.spread.is_empty() || pod.spread.iter().any(matches))
        };
        match event {
            Event::AssignedPodAdded(other) | Event::AssignedPodDeleted(other) => concerns(other),
            Event::AssignedPodUpdated { old, new } => {
                (old.labels != new.labels || old.terminating != new.terminating) && (concerns(old) || concerns(new))
            }
            Event::NamespaceLabelled { .. } => false,
            _ => event.node_changed(|n| (&n.labels, &n.taints)),
        }
    }
}
