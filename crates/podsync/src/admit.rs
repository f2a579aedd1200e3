//! The node's last word before a pod runs: does it fit, and is it meant for this node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::plan::Reason;
use crate::{quantity, resources};

const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// `running` are the pods already admitted here that have not ended.
pub fn admit<'a>(
    pod: &Pod,
    running: impl Iterator<Item = &'a Pod> + Clone,
    allocatable: &BTreeMap<String, Quantity>,
    node: Option<&Node>,
) -> Result<(), Reason> {
    let max_pods = quantity::get(Some(allocatable), "pods").map_or(i64::MAX, quantity::value);
    let count = i64::try_from(running.clone().count()).unwrap_or(i64::MAX);
    if count + 1 > max_pods {
        return Err(out_of("pods", 1, count, max_pods));
    }
    for name in COUNTED {
        let Some(total) = allocatable.get(name).map(quantity::milli) else { continue };
        let wanted = resources::pod_request_milli(pod, name);
        let used: i64 = running.clone().map(|p| resources::pod_request_milli(p, name)).sum();
        if wanted > 0 && used + wanted > total {
            // CPU is told in thousandths, the rest in whole units.
            let unit = if name == "cpu" { 1 } else { 1000 };
            return Err(out_of(name, wanted / unit, used / unit, total / unit));
        }
    }
    match node {
        Some(node) if !selector_matches(pod, node) => Err(Reason::new(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        )),
        _ => Ok(()),
    }
}

fn out_of(name: &str, wanted: i64, used: i64, capacity: i64) -> Reason {
    Reason::new(
        format!("OutOf{name}"),
        format!(
            "Pod was rejected: Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
        ),
    )
}

fn selector_matches(pod: &Pod, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let selector = pod.spec.as_ref().and_then(|s| s.node_selector.as_ref());
    selector.into_iter().flatten().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_of;
    use serde_json::json;

    fn pod(cpu: &str) -> Pod {
        pod_of(json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}))
    }

    #[test]
    fn fits_or_not() {
        let allocatable: BTreeMap<String, Quantity> =
            [("cpu", "2"), ("pods", "2")].map(|(k, v)| (k.to_owned(), Quantity(v.into()))).into();
        let check = |wanted: &str, running: &[&str], expected: Result<(), &str>| {
            let others: Vec<Pod> = running.iter().map(|cpu| pod(cpu)).collect();
            let result = admit(&pod(wanted), others.iter(), &allocatable, None);
            assert_eq!(result.as_ref().map_err(|r| r.reason.as_str()).copied(), expected, "{wanted} {running:?}");
        };
        check("1", &["1"], Ok(()));
        check("1", &["1500m"], Err("OutOfcpu"));
        check("0", &["0", "0"], Err("OutOfpods"));
        let full = admit(&pod("1"), [pod("1500m")].iter(), &allocatable, None).expect_err("full");
        let message =
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000";
        assert_eq!(full.message, message);
    }
}
