//! NodeName: a pod that names its node goes nowhere else.

use crate::event::Event;
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub struct NodeName;

struct Named<'a>(&'a str);

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if cycle.pod.node_name.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Check(Box::new(Named(&cycle.pod.node_name)))
    }

    fn hint(&self, pod: &PodInfo, event: Event<'_>) -> bool {
        matches!(event, Event::NodeAdded(node) if *node.name == *pod.node_name)
    }
}

impl Filter for Named<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if *node.name == *self.0 {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{cluster, node, pod, verdicts};
    use serde_json::json;

    #[test]
    fn filter() {
        let snapshot = cluster([node("a", json!({})), node("b", json!({}))], []);
        let check = |pod, expected: [Option<&str>; 2]| {
            assert_eq!(verdicts("NodeName", json!(null), &snapshot, &pod), expected.map(|e| e.map(String::from)));
        };
        check(pod("p", json!({})), [None, None]);
        let other = Some("node(s) didn't match the requested node name");
        check(pod("p", json!({"spec": {"nodeName": "b"}})), [other, None]);
    }
}
