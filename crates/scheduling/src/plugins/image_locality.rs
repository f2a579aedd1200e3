//! ImageLocality: prefer nodes that already have the pod's images, the more so the more nodes have them
//! (an image on one node only must not pull every replica there).

use crate::framework::{Cycle, MAX_NODE_SCORE, Plugin, Score};
use crate::node::NodeInfo;

pub struct ImageLocality;

const MIB: i64 = 1024 * 1024;
/// Below this it is not worth preferring a node; above the other nothing is gained.
const MIN_THRESHOLD: i64 = 23 * MIB;
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * MIB;

struct Images<'a> {
    cycle: Cycle<'a>,
    all_nodes: f64,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn pre_score<'a>(&'a self, cycle: Cycle<'a>, _feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Images { cycle, all_nodes: cycle.snapshot.nodes().len() as f64 }))
    }

    fn hint(&self, _pod: &crate::PodInfo, _event: crate::Event<'_>) -> bool {
        false
    }
}

impl Score for Images<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let images = &self.cycle.pod.images;
        let weigh = |image: &str, size: i64| {
            let spread = self.cycle.snapshot.nodes_with_image(image) as f64 / self.all_nodes;
            (size as f64 * spread) as i64
        };
        let sum: i64 = images.iter().filter_map(|i| node.images.get(i).map(|size| weigh(i, *size))).sum();
        let max = MAX_CONTAINER_THRESHOLD * images.len().max(1) as i64;
        MAX_NODE_SCORE * (sum.clamp(MIN_THRESHOLD, max) - MIN_THRESHOLD) / (max - MIN_THRESHOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::MIB;
    use crate::testing::{cluster, node, pod, scores};
    use serde_json::json;

    #[test]
    fn score() {
        let with = |name: &str, mib: i64| {
            node(name, json!({"status": {"images": [{"names": ["web:latest"], "sizeBytes": mib * MIB}]}}))
        };
        let pod = pod("p", json!({"spec": {"containers": [{"image": "web"}]}}));
        let check = |nodes: Vec<crate::NodeInfo>, expected: Vec<i64>| {
            assert_eq!(scores("ImageLocality", json!(null), &cluster(nodes, []), &pod), Some(expected));
        };
        check(vec![with("a", 1000), with("b", 1000)], vec![100, 100]);
        // Present on half of the nodes, it counts half: 100 * (500 - 23) / (1000 - 23).
        check(vec![with("a", 1000), node("b", json!({}))], vec![48, 0]);
        check(vec![with("a", 20), with("b", 4000)], vec![0, 100]);
    }
}
