//! Namespaces: the same name in several, defaults from the context, and deletion of all that is in one.

use anyhow::ensure;

use super::client;
use crate::cluster::{Cluster, contains};

pub fn the_same_pod_in_three_namespaces(c: &Cluster) -> anyhow::Result<()> {
    c.k("create namespace blue")?;
    c.k("create namespace orange")?;
    let pod = client("same");
    c.apply(&pod)?;
    c.feed(&["create", "-n", "blue"], &pod)?;
    c.apply(&pod.replace("  name: same\n", "  name: same\n  namespace: orange\n"))?;
    for namespace in ["default", "blue", "orange"] {
        c.kubectl(&["wait", "pod/same", "-n", namespace, "--for=condition=Ready", "--timeout=60s"])?;
    }
    let all = c.k("get pods -A --field-selector metadata.name=same --no-headers")?;
    ensure!(all.lines().count() == 3, "{all}");
    c.k("create configmap left -n blue --from-literal=a=b")?;
    c.k("delete namespace blue --timeout=60s")?;
    contains(&c.refused(&["get", "namespace", "blue"])?, &["namespaces \"blue\" not found"])?;
    c.k("create namespace blue")?;
    let left = c.k("get pods,configmaps -n blue -o name")?;
    ensure!(!left.contains("same") && !left.contains("left"), "{left}");
    c.k("delete namespace blue orange --timeout=60s")?;
    c.k("delete pod same")?;
    Ok(())
}

pub fn a_context_with_a_default_namespace(c: &Cluster) -> anyhow::Result<()> {
    c.k("create namespace blue")?;
    let config = c.dir().join("blue.conf");
    std::fs::copy(c.dir().join("admin.conf"), &config)?;
    let flag = format!("--kubeconfig={}", config.display());
    c.kubectl(&[
        &flag,
        "config",
        "set-context",
        "blue",
        "--cluster=kubernetes",
        "--user=kubernetes-admin",
        "--namespace=blue",
    ])?;
    c.kubectl(&[&flag, "config", "use-context", "blue"])?;
    c.kubectl(&[&flag, "create", "configmap", "here", "--from-literal=a=b"])?;
    contains(&c.k("get configmap here -n blue -o name")?, &["configmap/here"])?;
    contains(&c.refused(&["get", "configmap", "here"])?, &["configmaps \"here\" not found"])?;
    let dry = c.k("create deployment draft --image=busybox --dry-run=client -o yaml")?;
    contains(&dry, &["kind: Deployment", "name: draft", "image: busybox"])?;
    let dry = c.k("create configmap draft --from-literal=a=b --dry-run=server -o yaml")?;
    contains(&dry, &["uid:"])?;
    contains(&c.refused(&["get", "configmap", "draft"])?, &["not found"])?;
    c.k("delete namespace blue --timeout=60s")?;
    Ok(())
}
