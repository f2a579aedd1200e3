//! The node's last word before a pod runs: does it fit, and is it meant for this node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use scheduling::taints::{self, Effect};
use scheduling::{NodeInfo, PodInfo};

use crate::plan::Reason;
use crate::{pod as spec, qos, quantity, resources, sysctl};

const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// `running` are the pods already admitted here that have not ended; `sysctls` what the node's owner allows to be set.
pub fn admit<'a>(
    pod: &Pod,
    running: impl Iterator<Item = &'a Pod> + Clone,
    allocatable: &BTreeMap<String, Quantity>,
    node: Option<&Node>,
    sysctls: &[String],
) -> Result<(), Reason> {
    sysctl::admit(pod, sysctls)?;
    fits(pod, running.clone(), allocatable)?;
    let wants = PodInfo::new(pod);
    if let Some(node) = node {
        suits(pod, &wants, &NodeInfo::new(node))?;
    }
    let taken = running.flat_map(|p| PodInfo::new(p).host_ports);
    if taken.into_iter().any(|t| wants.host_ports.iter().any(|w| w.clashes(&t))) {
        return Err(failed("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    Ok(())
}

fn fits<'a>(
    pod: &Pod,
    running: impl Iterator<Item = &'a Pod> + Clone,
    allocatable: &BTreeMap<String, Quantity>,
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
    Ok(())
}

/// The scheduler's own rules: a pod may have been bound by hand, or the node changed since.
fn suits(pod: &Pod, wants: &PodInfo, node: &NodeInfo) -> Result<(), Reason> {
    let evicts = |t: &&taints::Taint| t.effect == Effect::NoExecute;
    let tolerated = |t: &taints::Taint| wants.tolerations.iter().any(|toleration| toleration.tolerates(t));
    if !spec::is_static(pod) && node.taints.iter().filter(evicts).any(|t| !tolerated(t)) {
        return Err(failed("TaintToleration", "node(s) had taints that the pod didn't tolerate"));
    }
    if !wants.admits_node(&node.name, &node.labels) {
        return Err(failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    Ok(())
}

fn failed(plugin: &str, why: &str) -> Reason {
    Reason::new(plugin, format!("Predicate {plugin} failed: {why}"))
}

fn out_of(name: &str, wanted: i64, used: i64, capacity: i64) -> Reason {
    Reason::new(
        format!("OutOf{name}"),
        format!("Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"),
    )
}

/// The whole status of a pod that this node will not run: nothing of it was ever made here.
pub fn rejected(pod: &Pod, why: &Reason, now: jiff::Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(why.reason.clone()),
        message: Some(format!("Pod was rejected: {}", why.message)),
        qos_class: Some(qos::class(pod).name().into()),
        start_time: old.start_time.or(Some(Time(now))),
        conditions: old.conditions,
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
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
            let result = admit(&pod(wanted), others.iter(), &allocatable, None, &[]);
            assert_eq!(result.as_ref().map_err(|r| r.reason.as_str()).copied(), expected, "{wanted} {running:?}");
        };
        check("1", &["1"], Ok(()));
        check("1", &["1500m"], Err("OutOfcpu"));
        check("0", &["0", "0"], Err("OutOfpods"));
        let full = admit(&pod("1"), [pod("1500m")].iter(), &allocatable, None, &[]).expect_err("full");
        let message = "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000";
        assert_eq!(full.message, message);
    }

    #[test]
    fn suits_the_node_or_not() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "maintenance", "effect": "NoExecute"}, {"key": "soon", "effect": "NoSchedule"}]},
        }))
        .expect("a node");
        let tolerations = json!([{"key": "maintenance", "operator": "Exists"}]);
        let check = |mut spec: serde_json::Value, expected: Result<(), &str>| {
            spec["containers"] = json!([{"name": "c", "image": "i"}]);
            let result = admit(&pod_of(spec.clone()), [].iter(), &BTreeMap::new(), Some(&node), &[]);
            assert_eq!(result.as_ref().map_err(|r| r.message.as_str()).copied(), expected, "{spec}");
        };
        let term = |value: &str| {
            let terms = json!([{"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]}]);
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
        };
        let elsewhere = Err("Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector");
        check(json!({"tolerations": tolerations}), Ok(()));
        check(json!({}), Err("Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"));
        check(json!({"tolerations": tolerations, "nodeSelector": {"disk": "hdd"}}), elsewhere);
        check(json!({"tolerations": tolerations, "affinity": term("hdd")}), elsewhere);
        check(json!({"tolerations": tolerations, "affinity": term("ssd")}), Ok(()));
    }

    #[test]
    fn host_ports_are_taken_once() {
        let on = |port: i32| {
            let ports = json!([{"containerPort": 80, "hostPort": port}]);
            pod_of(json!({"containers": [{"name": "c", "image": "i", "ports": ports}]}))
        };
        let check = |port: i32, expected: Result<(), &str>| {
            let result = admit(&on(port), [on(8080)].iter(), &BTreeMap::new(), None, &[]);
            assert_eq!(result.as_ref().map_err(|r| r.reason.as_str()).copied(), expected, "{port}");
        };
        check(8080, Err("NodePorts"));
        check(8081, Ok(()));
    }

    #[test]
    fn a_rejected_pod_shows_why() {
        let why = Reason::new("NodePorts", "taken");
        let status = rejected(&pod("1"), &why, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        assert_eq!(status.reason.as_deref(), Some("NodePorts"));
        assert_eq!(status.message.as_deref(), Some("Pod was rejected: taken"));
        assert_eq!(status.container_statuses, None);
    }
}
