//! From requests and limits to the kernel's numbers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::{containers, init_containers, is_sidecar};
use crate::qos::{self, Qos};
use crate::quantity;

pub const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// The CFS period in microseconds.
pub const CPU_PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1_000;

/// The kernel settings of a container or of a pod's cgroup; zero means "not set".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: i64,
    pub cpu_quota: i64,
    pub cpu_period: i64,
    pub memory_bytes: i64,
}

pub fn cpu_shares(milli_cpu: i64) -> i64 {
    (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

fn cpu_quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu * CPU_PERIOD / 1000).max(MIN_QUOTA) }
}

/// cgroup v2's `cpu.weight` for v1 shares.
pub fn cpu_weight(shares: i64) -> i64 {
    1 + (shares.clamp(MIN_SHARES, MAX_SHARES) - 2) * 9999 / 262_142
}

fn asked<'a>(container: &'a Container, name: &str) -> (Option<&'a Quantity>, Option<&'a Quantity>) {
    let resources = container.resources.as_ref();
    let limit = quantity::get(resources.and_then(|r| r.limits.as_ref()), name);
    // A limit without a request is a request of the same size.
    let request = quantity::get(resources.and_then(|r| r.requests.as_ref()), name).or(limit);
    (request, limit)
}

pub fn container_limits(container: &Container) -> Limits {
    let (cpu_request, cpu_limit) = asked(container, "cpu");
    let (_, memory_limit) = asked(container, "memory");
    let cpu_limit = cpu_limit.map_or(0, quantity::milli);
    Limits {
        cpu_shares: cpu_shares(cpu_request.map_or(0, quantity::milli)),
        cpu_quota: cpu_quota(cpu_limit),
        cpu_period: if cpu_limit > 0 { CPU_PERIOD } else { 0 },
        memory_bytes: memory_limit.map_or(0, quantity::value),
    }
}

/// The larger of what runs together and of each init stage, plus overhead, in thousandths.
fn pod_total(pod: &Pod, one: impl Fn(&Container) -> i64, overhead: &str) -> i64 {
    let mut sidecars = 0;
    let mut peak = 0;
    for init in init_containers(pod) {
        if is_sidecar(init) {
            sidecars += one(init);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + one(init));
        }
    }
    let running: i64 = containers(pod).iter().map(&one).sum::<i64>() + sidecars;
    let extra = pod.spec.as_ref().and_then(|s| quantity::get(s.overhead.as_ref(), overhead)).map_or(0, quantity::milli);
    peak.max(running) + extra
}

/// What the scheduler and the node count for this pod, in thousandths of the resource's unit.
pub fn pod_request_milli(pod: &Pod, name: &str) -> i64 {
    pod_total(pod, |c| asked(c, name).0.map_or(0, quantity::milli), name)
}

/// A pod's own cgroup: limited only in what all of its containers limit.
pub fn pod_limits(pod: &Pod) -> Limits {
    let all = || containers(pod).iter().chain(init_containers(pod));
    let limited = |name: &str| all().all(|c| asked(c, name).1.is_some_and(|q| quantity::milli(q) > 0));
    let limit = |name: &str| pod_total(pod, |c| asked(c, name).1.map_or(0, quantity::milli), name);
    let cpu = if limited("cpu") { limit("cpu") } else { 0 };
    Limits {
        cpu_shares: match qos::class(pod) {
            Qos::BestEffort => MIN_SHARES,
            _ => cpu_shares(pod_request_milli(pod, "cpu")),
        },
        cpu_quota: cpu_quota(cpu),
        cpu_period: if cpu > 0 { CPU_PERIOD } else { 0 },
        memory_bytes: if limited("memory") { limit("memory") / 1000 } else { 0 },
    }
}

/// How large a volume in memory may grow: its own limit, but never more than the pod may use, or all pods of the node.
pub fn memory_volume_bytes(
    pod: &Pod,
    size_limit: Option<&Quantity>,
    allocatable: &BTreeMap<String, Quantity>,
) -> Option<i64> {
    let own = size_limit.map(quantity::value);
    let node = quantity::get(Some(allocatable), "memory").map(quantity::value);
    [own, Some(pod_limits(pod).memory_bytes), node].into_iter().flatten().filter(|bytes| *bytes > 0).min()
}

/// Who the kernel kills first when the node is out of memory.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory_bytes: i64) -> i64 {
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= 2_000_000_000);
    match qos::class(pod) {
        _ if critical => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = asked(container, "memory").0.map_or(0, quantity::value);
            let share = (1000 * i128::from(request)) / i128::from(node_memory_bytes.max(1));
            let score = 1000 - i64::try_from(share).unwrap_or(1000);
            // Never as safe as Guaranteed, never as exposed as BestEffort.
            if score < 1000 + -997 { 1000 + -997 } else { score.min(999) }
        }
    }
}

/// A container's limit as the downward API reports it: the node's allocatable when unlimited.
pub fn effective_limit(container: &Container, name: &str, allocatable: &BTreeMap<String, Quantity>) -> Quantity {
    asked(container, name).1.or_else(|| allocatable.get(name)).cloned().unwrap_or_else(|| Quantity("0".into()))
}

pub fn effective_request(container: &Container, name: &str) -> Quantity {
    asked(container, name).0.cloned().unwrap_or_else(|| Quantity("0".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_of;
    use serde_json::json;

    #[test]
    fn kernel_numbers() {
        let check = |resources: serde_json::Value, expected: (i64, i64, i64)| {
            let pod = pod_of(json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}));
            let limits = container_limits(&containers(&pod)[0]);
            assert_eq!((limits.cpu_shares, limits.cpu_quota, limits.memory_bytes), expected);
            assert_eq!(pod_limits(&pod).cpu_quota, expected.1, "one container: the pod's limit is its own");
        };
        check(json!({}), (2, 0, 0));
        check(json!({"requests": {"cpu": "100m"}}), (102, 0, 0));
        check(json!({"limits": {"cpu": "500m", "memory": "64Mi"}}), (512, 50_000, 67_108_864));
        check(json!({"limits": {"cpu": "1m"}}), (2, 1_000, 0));
    }

    #[test]
    fn init_containers_count_by_their_peak() {
        let cpu = |value: &str| json!({"requests": {"cpu": value}});
        let pod = pod_of(json!({
            "initContainers": [
                {"name": "s", "image": "i", "restartPolicy": "Always", "resources": cpu("100m")},
                {"name": "i", "image": "i", "resources": cpu("900m")}],
            "containers": [{"name": "c", "image": "i", "resources": cpu("500m")}]}));
        assert_eq!(pod_request_milli(&pod, "cpu"), 1000);
    }

    #[test]
    fn volumes_in_memory_are_bounded() {
        let allocatable = BTreeMap::from([("memory".to_owned(), Quantity("1Gi".into()))]);
        let check = |limits: [&str; 2], own: &str, expected: i64| {
            let containers = limits.map(|limit| {
                let limits = if limit.is_empty() { json!({}) } else { json!({"memory": limit}) };
                json!({"name": "c", "image": "i", "resources": {"limits": limits}})
            });
            let pod = pod_of(json!({"containers": containers}));
            let own = (!own.is_empty()).then(|| Quantity(own.into()));
            let found = memory_volume_bytes(&pod, own.as_ref(), &allocatable);
            assert_eq!(found, Some(expected << 20), "{limits:?} {own:?}");
        };
        check(["", ""], "", 1024);
        check(["", ""], "2Gi", 1024);
        check(["", ""], "0", 1024);
        check(["", ""], "16Mi", 16);
        check(["64Mi", "64Mi"], "", 128);
        check(["64Mi", "64Mi"], "16Mi", 16);
        check(["64Mi", ""], "", 1024);
    }

    #[test]
    fn oom_scores() {
        let check = |resources: serde_json::Value, expected: i64| {
            let pod = pod_of(json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}));
            assert_eq!(oom_score_adj(&pod, &containers(&pod)[0], 1 << 30), expected);
        };
        check(json!({}), 1000);
        check(json!({"limits": {"cpu": "1", "memory": "1Mi"}}), -997);
        check(json!({"requests": {"memory": "512Mi"}}), 500);
        check(json!({"requests": {"memory": "1Gi"}}), 3);
        check(json!({"requests": {"cpu": "1"}}), 999);
    }

    #[test]
    fn weights() {
        assert_eq!((cpu_weight(2), cpu_weight(1024), cpu_weight(262_144)), (1, 39, 10_000));
    }
}
