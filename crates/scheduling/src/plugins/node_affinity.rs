//! NodeAffinity: the node labels and names a pod asks for, and those it would like.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;
use serde_json::Value;

use super::{ArgsError, parse};
use crate::event::Event;
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score, normalize_to_max};
use crate::node::NodeInfo;
use crate::pod::{NodeAffinity as Affinity, PodInfo};
use crate::selector::NodeTerm;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Args {
    added_affinity: Option<core::NodeAffinity>,
}

struct NodeAffinity {
    /// What the configuration demands of every pod of the profile.
    added: Affinity,
}

pub fn build(args: &Value) -> Result<Box<dyn Plugin>, ArgsError> {
    let args: Args = parse(args)?;
    let added = args.added_affinity.unwrap_or_default();
    let required = added.required_during_scheduling_ignored_during_execution;
    let preferred = added.preferred_during_scheduling_ignored_during_execution.unwrap_or_default();
    Ok(Box::new(NodeAffinity {
        added: Affinity {
            required: required.map(|r| r.node_selector_terms.iter().map(NodeTerm::new).collect()),
            preferred: preferred.iter().map(|p| (i64::from(p.weight), NodeTerm::new(&p.preference))).collect(),
            ..Affinity::default()
        },
    }))
}

struct Required<'a> {
    added: &'a Affinity,
    pod: &'a PodInfo,
}

struct Preferred<'a>(Vec<&'a (i64, NodeTerm)>);

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let own = cycle.pod.node_affinity.as_deref();
        let asks = own.is_some_and(|a| a.required.is_some() || !a.selector.is_everything());
        if !asks && self.added.required.is_none() {
            return PreFilter::Skip;
        }
        let filter = Box::new(Required { added: &self.added, pod: cycle.pod });
        match own.and_then(|a| a.required.as_deref()).and_then(named) {
            None => PreFilter::Check(filter),
            Some(names) if names.is_empty() => {
                PreFilter::Reject(Rejection::unresolvable("pod affinity terms conflict"))
            }
            Some(names) => PreFilter::Only(names, filter),
        }
    }

    fn pre_score<'a>(&'a self, cycle: Cycle<'a>, _feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let own = cycle.pod.node_affinity.iter().flat_map(|a| &a.preferred);
        let terms: Vec<_> = self.added.preferred.iter().chain(own).collect();
        if terms.is_empty() { None } else { Some(Box::new(Preferred(terms))) }
    }

    fn hint(&self, pod: &PodInfo, event: Event<'_>) -> bool {
        event.node_changed(|n| &n.labels) && event.node().is_some_and(|n| pod.admits_node(&n.name, &n.labels))
    }
}

/// The nodes the terms name, if every one of them names some: any term without a name lets all nodes in.
fn named(terms: &[NodeTerm]) -> Option<BTreeSet<&str>> {
    if terms.is_empty() {
        return None;
    }
    let names: Option<Vec<Vec<&str>>> = terms.iter().map(NodeTerm::names).collect();
    names.map(|names| names.into_iter().flatten().collect())
}

impl Filter for Required<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.added.admits(&node.name, &node.labels) {
            return Err(Rejection::unresolvable("node(s) didn't match scheduler-enforced node affinity"));
        }
        if !self.pod.admits_node(&node.name, &node.labels) {
            return Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"));
        }
        Ok(())
    }
}

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let liked = self.0.iter().filter(|(_, term)| term.matches(&node.name, &node.labels));
        liked.map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_to_max(scores, false);
    }
}

#[cfg(test)]
mod tests {
    use crate::Snapshot;
    use crate::testing::{cluster, labelled, pod, scores, verdicts};
    use serde_json::{Value, json};

    fn zones() -> Snapshot {
        cluster([labelled("n1", json!({"zone": "a"})), labelled("n2", json!({"zone": "b"}))], [])
    }

    fn requires(terms: Value) -> Value {
        let required = json!({"nodeSelectorTerms": terms});
        json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}})
    }

    #[test]
    fn filter() {
        let check = |object: Value, args: Value, expected: [Option<&str>; 2]| {
            let got = verdicts("NodeAffinity", args, &zones(), &pod("p", object.clone()));
            assert_eq!(got, expected.map(|e| e.map(String::from)), "{object}");
        };
        let no = Some("node(s) didn't match Pod's node affinity/selector");
        check(json!({}), json!(null), [None, None]);
        check(json!({"spec": {"nodeSelector": {"zone": "b"}}}), json!(null), [no, None]);
        let zone = |z: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [z]}]});
        check(requires(json!([zone("a")])), json!(null), [None, no]);
        check(requires(json!([zone("a"), zone("b")])), json!(null), [None, None]);
        check(requires(json!([])), json!(null), [no, no]);
        let name = |n: &str| json!({"key": "metadata.name", "operator": "In", "values": [n]});
        check(requires(json!([{"matchFields": [name("n2")]}])), json!(null), [Some("not considered"), None]);
        let conflict = Some("pod affinity terms conflict");
        check(requires(json!([{"matchFields": [name("n1"), name("n2")]}])), json!(null), [conflict, conflict]);
        let required = json!({"nodeSelectorTerms": [zone("a")]});
        let added = json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
        check(json!({}), added, [None, Some("node(s) didn't match scheduler-enforced node affinity")]);
    }

    #[test]
    fn score() {
        let prefer = |zone: &str, weight: i32| {
            let expression = json!({"key": "zone", "operator": "In", "values": [zone]});
            json!({"weight": weight, "preference": {"matchExpressions": [expression]}})
        };
        let list = json!([prefer("a", 20), prefer("b", 80)]);
        let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": list}});
        let picky = pod("p", json!({"spec": {"affinity": affinity}}));
        assert_eq!(scores("NodeAffinity", json!(null), &zones(), &picky), Some(vec![25, 100]));
        assert_eq!(scores("NodeAffinity", json!(null), &zones(), &pod("p", json!({}))), None);
    }
}
