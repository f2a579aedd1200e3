//! Nodes, and what describes how they run pods.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{NONE, UNKNOWN, age, age_column, boolean, column, condition, list, map, printer, text, text_or, wide};
use crate::meta;
use crate::table::Printer;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub fn node() -> Printer {
    let columns = vec![
        column("Status", "string", "The status of the node"),
        column("Roles", "string", "The roles of the node"),
        age_column(),
        column("Version", "string", "Kubelet Version reported by the node."),
        wide("Internal-IP", "string", "List of addresses reachable to the node."),
        wide("External-IP", "string", "List of addresses reachable to the node."),
        wide("OS-Image", "string", "OS Image reported by the node from /etc/os-release."),
        wide("Kernel-Version", "string", "Kernel Version reported by the node from 'uname -r'."),
        wide("Container-Runtime", "string", "ContainerRuntime Version reported by the node."),
    ];
    printer(columns, cells)
}

fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = |field: &str| text_or(node, &format!("/status/nodeInfo/{field}"), UNKNOWN).into();
    vec![
        meta::name(node).into(),
        status(node).into(),
        roles(node).into(),
        age(node, now),
        text(node, "/status/nodeInfo/kubeletVersion").into(),
        address(node, "InternalIP").into(),
        address(node, "ExternalIP").into(),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn status(node: &Value) -> String {
    let ready = match condition(node, "Ready").map(|ready| text(ready, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if boolean(node, "/spec/unschedulable") { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn roles(node: &Value) -> String {
    let labels = map(node, "/metadata/labels").into_iter().flatten();
    let role = |(key, value): (&String, &Value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => Some(role.to_owned()),
        None if key == ROLE_LABEL => value.as_str().map(str::to_owned),
        None => None,
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    if roles.is_empty() { NONE.to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let found = list(node, "/status/addresses").iter().find(|address| text(address, "/type") == kind);
    found.map_or(NONE, |address| text(address, "/address"))
}

pub fn lease() -> Printer {
    let columns = vec![column("Holder", "string", "The identity of the holder of a current lease."), age_column()];
    printer(columns, |lease, now| {
        vec![meta::name(lease).into(), text(lease, "/spec/holderIdentity").into(), age(lease, now)]
    })
}

pub fn runtime_class() -> Printer {
    let columns = vec![column("Handler", "string", "The underlying runtime and configuration."), age_column()];
    printer(columns, |class, now| vec![meta::name(class).into(), text(class, "/handler").into(), age(class, now)])
}
