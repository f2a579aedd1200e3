//! NodeResourcesBalancedAllocation: prefer nodes whose resources would be used evenly.

use serde::Deserialize;
use serde_json::Value;

use super::resource_scoring::{ResourceSpec, asks_for_nothing, default_resources, usages, validate};
use super::{ArgsError, parse};
use crate::framework::{Cycle, MAX_NODE_SCORE, Plugin, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NodeResourcesBalancedAllocation {
    resources: Vec<ResourceSpec>,
}

impl Default for NodeResourcesBalancedAllocation {
    fn default() -> Self {
        NodeResourcesBalancedAllocation { resources: default_resources() }
    }
}

pub fn build(args: &Value) -> Result<Box<dyn Plugin>, ArgsError> {
    let plugin: NodeResourcesBalancedAllocation = parse(args)?;
    validate(&plugin.resources)?;
    Ok(Box::new(plugin))
}

struct Balance<'a> {
    pod: &'a PodInfo,
    resources: &'a [ResourceSpec],
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    /// A pod that asks for nothing unbalances nothing; ranking by it would pile such pods on one node.
    fn pre_score<'a>(&'a self, cycle: Cycle<'a>, _feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        if asks_for_nothing(cycle.pod, &self.resources) {
            return None;
        }
        Some(Box::new(Balance { pod: cycle.pod, resources: &self.resources }))
    }

    fn hint(&self, _pod: &PodInfo, _event: crate::Event<'_>) -> bool {
        false
    }
}

impl Score for Balance<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let usages = usages(self.resources, node, &node.requested, &self.pod.requests.exact);
        let fractions: Vec<f64> = usages.map(|u| (u.requested as f64 / u.allocatable as f64).min(1.0)).collect();
        ((1.0 - deviation(&fractions)) * MAX_NODE_SCORE as f64) as i64
    }
}

/// The standard deviation.
fn deviation(fractions: &[f64]) -> f64 {
    match fractions {
        [] | [_] => 0.0,
        [a, b] => ((a - b) / 2.0).abs(),
        _ => {
            let count = fractions.len() as f64;
            let mean = fractions.iter().sum::<f64>() / count;
            (fractions.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / count).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{cluster, node, pod, scores};
    use serde_json::{Value, json};

    #[test]
    fn score() {
        let check = |requests: Value, expected: Option<i64>| {
            let snapshot = cluster([node("n", json!({"status": {"allocatable": {"cpu": "4", "memory": "4Gi"}}}))], []);
            let pod = pod("p", json!({"spec": {"containers": [{"resources": {"requests": requests}}]}}));
            let got = scores("NodeResourcesBalancedAllocation", json!(null), &snapshot, &pod);
            assert_eq!(got, expected.map(|s| vec![s]), "{requests}");
        };
        check(json!({}), None);
        check(json!({"cpu": "2", "memory": "2Gi"}), Some(100));
        check(json!({"cpu": "4"}), Some(50));
        check(json!({"cpu": "3", "memory": "1Gi"}), Some(75));
    }
}
