//! TaintToleration: taints keep pods off a node, or make it a worse choice.

use crate::event::Event;
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score, normalize_to_max};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::taints::{Toleration, untolerated};

pub struct TaintToleration;

struct Tolerations<'a>(&'a [Toleration]);

struct Preferences<'a>(Vec<&'a Toleration>);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Check(Box::new(Tolerations(&cycle.pod.tolerations)))
    }

    fn pre_score<'a>(&'a self, cycle: Cycle<'a>, _feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Preferences(cycle.pod.tolerations.iter().filter(|t| t.covers_preferences()).collect())))
    }

    fn hint(&self, pod: &PodInfo, event: Event<'_>) -> bool {
        event.node_changed(|n| &n.taints)
            && event.node().is_some_and(|n| untolerated(&n.taints, &pod.tolerations).is_none())
    }
}

impl Filter for Tolerations<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        match untolerated(&node.taints, self.0) {
            None => Ok(()),
            Some(_) => Err(Rejection::unresolvable("node(s) had untolerated taint(s)")),
        }
    }
}

impl Score for Preferences<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let discouraging = node.taints.iter().filter(|taint| !taint.effect.forbids());
        discouraging.filter(|taint| !self.0.iter().any(|t| t.tolerates(taint))).count() as i64
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_to_max(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{cluster, node, pod, scores, verdicts};
    use serde_json::{Value, json};

    fn tainted(name: &str, value: &str, effect: &str) -> crate::NodeInfo {
        node(name, json!({"spec": {"taints": [{"key": "k", "value": value, "effect": effect}]}}))
    }

    #[test]
    fn filter() {
        let snapshot = cluster(
            [tainted("a", "1", "NoSchedule"), tainted("b", "5", "NoExecute"), tainted("c", "1", "PreferNoSchedule")],
            [],
        );
        let check = |toleration: Value, expected: [bool; 3]| {
            let pod = pod("p", json!({"spec": {"tolerations": [toleration.clone()]}}));
            let got = verdicts("TaintToleration", json!(null), &snapshot, &pod);
            let refused = Some("node(s) had untolerated taint(s)".to_owned());
            assert_eq!(got, expected.map(|fits| if fits { None } else { refused.clone() }), "{toleration}");
        };
        check(json!({"key": "other", "operator": "Exists"}), [false, false, true]);
        check(json!({"key": "k", "operator": "Exists"}), [true, true, true]);
        check(json!({"operator": "Exists"}), [true, true, true]);
        check(json!({"operator": "Exists", "effect": "NoExecute"}), [false, true, true]);
        check(json!({"key": "k", "value": "1"}), [true, false, true]);
        check(json!({"key": "k", "operator": "Gt", "value": "3"}), [false, true, true]);
        check(json!({"key": "k", "operator": "Lt", "value": "3"}), [true, false, true]);
    }

    #[test]
    fn score() {
        let snapshot = cluster([tainted("a", "1", "PreferNoSchedule"), node("b", json!({}))], []);
        let plain = pod("p", json!({}));
        assert_eq!(scores("TaintToleration", json!(null), &snapshot, &plain), Some(vec![0, 100]));
        let tolerant = pod("p", json!({"spec": {"tolerations": [{"operator": "Exists"}]}}));
        assert_eq!(scores("TaintToleration", json!(null), &snapshot, &tolerant), Some(vec![100, 100]));
    }
}
