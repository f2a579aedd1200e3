//! Nodes: what they report, and emptying one.

use anyhow::ensure;

use super::web;
use crate::cluster::{Cluster, contains};

pub fn nodes_report_what_they_are(c: &Cluster) -> anyhow::Result<()> {
    let table = c.k("get nodes -o wide")?;
    contains(&table, &["node-1", "node-2", "Ready", "v1.36", "containerd://", "INTERNAL-IP"])?;
    let cpus = std::thread::available_parallelism()?.to_string();
    ensure!(c.k("get node node-1 -o jsonpath={.status.capacity.cpu}")? == cpus);
    contains(&c.k("get leases -n kube-node-lease -o name")?, &["node-1", "node-2"])?;
    contains(&c.k("get node node-1 -o jsonpath={.spec.podCIDR}")?, &["10.2"])?;
    contains(&c.k("get --raw /api/v1/nodes/node-1/proxy/healthz")?, &["ok"])?;
    c.apply(&web("proxied", 1))?;
    c.k("expose deployment proxied --port=8080")?;
    c.k("rollout status deployment/proxied --timeout=60s")?;
    let pod = c.k("get pods -l app=proxied -o jsonpath={.items[0].metadata.name}")?;
    let answer = c.k(&format!("get --raw /api/v1/namespaces/default/pods/{pod}:8080/proxy/hostname"))?;
    contains(&answer, &[pod.as_str()])?;
    crate::cluster::eventually(crate::cluster::PATIENCE, || {
        contains(&c.k("get --raw /api/v1/namespaces/default/services/proxied:8080/proxy/version")?, &["v1"])
    })?;
    c.k("delete deployment,service proxied").map(drop)
}

pub fn cordon_drain_and_uncordon(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&web("drained", 4))?;
    c.k("rollout status deployment/drained --timeout=60s")?;
    c.k("cordon node-2")?;
    contains(&c.k("get node node-2")?, &["Ready,SchedulingDisabled"])?;
    c.k("drain node-2 --ignore-daemonsets --delete-emptydir-data --force --timeout=60s")?;
    let left = c.k("get pods -l app=drained --field-selector spec.nodeName=node-2,status.phase=Running -o name")?;
    ensure!(left.is_empty(), "{left}");
    c.k("rollout status deployment/drained --timeout=60s")?;
    c.k("uncordon node-2")?;
    ensure!(!c.k("get node node-2")?.contains("SchedulingDisabled"));
    c.k("delete deployment drained")?;
    Ok(())
}
