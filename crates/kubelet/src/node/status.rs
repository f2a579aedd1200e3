//! The node's status, from facts gathered just before.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use podsync::eviction::Pressure;

use crate::context::Machine;
use crate::node::capacity;

/// Upstream's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;
/// Names reported per image.
const MAX_NAMES: usize = 5;

/// What the runtime and the host say right now.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// `None` when the runtime cannot be reached.
    pub runtime_version: Option<String>,
    /// Why the runtime, or its network, is not ready.
    pub not_ready: Vec<String>,
    pub images: Vec<cri::v1::Image>,
    pub pressures: Vec<Pressure>,
}

pub fn build(
    machine: &Machine,
    name: &str,
    port: u16,
    old: Option<&Node>,
    seen: &Observed,
    now: Timestamp,
) -> NodeStatus {
    let before = old.and_then(|n| n.status.as_ref());
    let version = seen.runtime_version.clone();
    let known = before.and_then(|s| s.node_info.as_ref()).map(|i| i.container_runtime_version.clone());
    let mut addresses: Vec<NodeAddress> = machine.ips.iter().map(|ip| address("InternalIP", &ip.to_string())).collect();
    addresses.push(address("Hostname", name));
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(machine.capacity.clone()),
        allocatable: Some(machine.allocatable.clone()),
        conditions: Some(conditions(before, seen, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
        }),
        images: Some(images(&seen.images)),
        node_info: Some(capacity::system_info(version.or(known).unwrap_or_default())),
        ..NodeStatus::default()
    }
}

fn address(type_: &str, address: &str) -> NodeAddress {
    NodeAddress { type_: type_.into(), address: address.into() }
}

/// Largest first, bounded, as upstream.
fn images(all: &[cri::v1::Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&cri::v1::Image> = all.iter().collect();
    sorted.sort_by_key(|image| std::cmp::Reverse(image.size));
    let names = |image: &cri::v1::Image| {
        let both = image.repo_digests.iter().chain(&image.repo_tags);
        both.take(MAX_NAMES).cloned().collect::<Vec<_>>()
    };
    sorted
        .into_iter()
        .take(MAX_IMAGES)
        .map(|image| ContainerImage { names: Some(names(image)), size_bytes: i64::try_from(image.size).ok() })
        .collect()
}

fn conditions(before: Option<&NodeStatus>, seen: &Observed, now: Timestamp) -> Vec<NodeCondition> {
    let old = before.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let pressure = |type_: &str, of: Pressure, yes: (&str, &str), no: (&str, &str)| {
        let bad = seen.pressures.contains(&of);
        let (reason, message) = if bad { yes } else { no };
        condition(old, type_, bad, reason, message, now)
    };
    let (ready, reason, message) = match (&seen.runtime_version, seen.not_ready.is_empty()) {
        (None, _) => (false, "KubeletNotReady", "container runtime is down".to_owned()),
        (_, false) => (false, "KubeletNotReady", seen.not_ready.join(", ")),
        _ => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
    };
    let mut all = vec![
        pressure(
            "MemoryPressure",
            Pressure::Memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            Pressure::Disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            Pressure::Pid,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        condition(old, "Ready", ready, reason, &message, now),
    ];
    // Others' conditions stay as they are.
    let own: Vec<String> = all.iter().map(|c| c.type_.clone()).collect();
    all.extend(old.iter().filter(|c| !own.contains(&c.type_)).cloned());
    all
}

fn condition(
    old: &[NodeCondition],
    type_: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> NodeCondition {
    let status = if status { "True" } else { "False" };
    let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
    NodeCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
    }
}

/// The events about pressures that have come or gone; of a new node, what it has enough of.
pub fn pressure_events(old: &NodeStatus, new: &NodeStatus) -> Vec<&'static str> {
    let pressed = |status: &NodeStatus, kind: &str| {
        let found = status.conditions.iter().flatten().find(|c| c.type_ == kind);
        found.map(|c| c.status == "True")
    };
    let kinds = [
        ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
        ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
        ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ];
    let changed = kinds.into_iter().filter(|(kind, ..)| pressed(old, kind) != pressed(new, kind));
    changed.map(|(kind, yes, no)| if pressed(new, kind) == Some(true) { yes } else { no }).collect()
}

/// Whether two statuses differ in more than their heartbeats.
pub fn differs(one: &NodeStatus, other: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(one) != still(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_or_why_not() {
        let check = |seen: Observed, status: &str, reason: &str, word: &str| {
            let all = conditions(None, &seen, Timestamp::UNIX_EPOCH);
            let ready = all.iter().find(|c| c.type_ == "Ready").expect("a Ready condition");
            assert_eq!((ready.status.as_str(), ready.reason.as_deref()), (status, Some(reason)));
            assert!(ready.message.as_deref().is_some_and(|m| m.contains(word)), "{ready:?}");
        };
        let up = Observed { runtime_version: Some("containerd://1".into()), ..Observed::default() };
        check(up.clone(), "True", "KubeletReady", "posting ready status");
        let network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:x";
        check(Observed { not_ready: vec![network.into()], ..up }, "False", "KubeletNotReady", "NetworkPluginNotReady");
        check(Observed::default(), "False", "KubeletNotReady", "runtime is down");
    }

    #[test]
    fn pressures_are_told_as_they_come_and_go() {
        let with = |memory: &str| NodeStatus {
            conditions: Some(vec![NodeCondition {
                type_: "MemoryPressure".into(),
                status: memory.into(),
                ..NodeCondition::default()
            }]),
            ..NodeStatus::default()
        };
        let check = |old: NodeStatus, new: &str, expected: &[&str]| {
            assert_eq!(pressure_events(&old, &with(new)), expected);
        };
        check(NodeStatus::default(), "False", &["NodeHasSufficientMemory"]);
        check(with("False"), "False", &[]);
        check(with("False"), "True", &["NodeHasInsufficientMemory"]);
        check(with("True"), "False", &["NodeHasSufficientMemory"]);
    }

    #[test]
    fn heartbeats_are_no_difference() {
        let machine = Machine {
            ips: vec![],
            capacity: Default::default(),
            enforced: Default::default(),
            allocatable: Default::default(),
            memory_bytes: 1,
        };
        let seen = Observed::default();
        let at = |second| Timestamp::from_second(second).expect("in range");
        let first = build(&machine, "n", 1, None, &seen, at(0));
        let node = Node { status: Some(first.clone()), ..Node::default() };
        let second = build(&machine, "n", 1, Some(&node), &seen, at(60));
        assert!(!differs(&first, &second));
        let up = Observed { runtime_version: Some("v".into()), ..Observed::default() };
        assert!(differs(&first, &build(&machine, "n", 1, Some(&node), &up, at(60))));
    }
}
