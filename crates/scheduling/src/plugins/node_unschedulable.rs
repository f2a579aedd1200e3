//! NodeUnschedulable: a cordoned node takes only pods that tolerate the cordon.

use crate::event::Event;
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::taints::{Effect, Taint, UNSCHEDULABLE};

pub struct NodeUnschedulable;

struct Uncordoned;

fn tolerates_cordon(pod: &PodInfo) -> bool {
    let cordon = Taint { key: UNSCHEDULABLE.into(), value: "".into(), effect: Effect::NoSchedule };
    pod.tolerations.iter().any(|t| t.tolerates(&cordon))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if tolerates_cordon(cycle.pod) { PreFilter::Skip } else { PreFilter::Check(Box::new(Uncordoned)) }
    }

    fn hint(&self, _pod: &PodInfo, event: Event<'_>) -> bool {
        event.node_changed(|n| n.unschedulable) && event.node().is_some_and(|n| !n.unschedulable)
    }
}

impl Filter for Uncordoned {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.unschedulable {
            return Err(Rejection::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{cluster, node, pod, verdicts};
    use serde_json::json;

    #[test]
    fn filter() {
        let snapshot = cluster([node("a", json!({})), node("b", json!({"spec": {"unschedulable": true}}))], []);
        let check = |pod, expected: [Option<&str>; 2]| {
            let got = verdicts("NodeUnschedulable", json!(null), &snapshot, &pod);
            assert_eq!(got, expected.map(|e| e.map(String::from)));
        };
        check(pod("p", json!({})), [None, Some("node(s) were unschedulable")]);
        let toleration = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
        check(pod("p", json!({"spec": {"tolerations": toleration}})), [None, None]);
    }
}
