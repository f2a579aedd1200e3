//! What kubectl shows: tables, YAML, JSON, jsonpath, descriptions, explanations, events.

use anyhow::ensure;

use super::client;
use crate::cluster::{Cluster, PATIENCE, contains, eventually};

pub fn every_form_of_output(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&client("shown"))?;
    c.k("wait pod/shown --for=condition=Ready --timeout=60s")?;
    let table = c.k("get pod shown")?;
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"], "{table}");
    contains(&table, &["shown", "1/1", "Running", "0"])?;
    contains(&c.k("get pod shown -o wide")?, &["IP", "NODE", "NOMINATED NODE", "READINESS GATES", "10.2", "node-"])?;
    contains(&c.k("get pod shown -o yaml")?, &["apiVersion: v1", "kind: Pod", "name: shown", "phase: Running"])?;
    contains(&c.k("get pod shown -o json")?, &["\"kind\": \"Pod\""])?;
    ensure!(c.k("get pod shown -o jsonpath={.metadata.name}")? == "shown");
    contains(&c.k("get pods -o name")?, &["pod/shown"])?;
    contains(&c.k("get pods -o custom-columns=N:.metadata.name")?, &["N", "shown"])?;
    contains(&c.k("get pods --show-labels -l app=shown")?, &["app=shown"])?;
    eventually(PATIENCE, || {
        let text = c.k("describe pod shown")?;
        contains(
            &text,
            &[
                "Name:             shown",
                "Node:             node-",
                "Status:           Running",
                "Events:",
                "Scheduled",
                "Pulled",
                "Created",
                "Started",
            ],
        )
    })?;
    contains(
        &c.k("describe node node-1")?,
        &["Capacity:", "Allocatable:", "Ready", "KubeletReady", "Non-terminated Pods:"],
    )?;
    contains(&c.k("get all -n kube-system")?, &["service/kube-dns"])?;
    c.k("delete pod shown --now")?;
    Ok(())
}

pub fn explain_api_resources_and_events(c: &Cluster) -> anyhow::Result<()> {
    contains(
        &c.k("explain pod.spec")?,
        &[
            "KIND:       Pod",
            "VERSION:    v1",
            "FIELD: spec <PodSpec>",
            "containers\t<[]Container> -required-",
            "nodeName",
        ],
    )?;
    contains(&c.k("explain deployment.spec.strategy")?, &["GROUP:      apps", "rollingUpdate"])?;
    let resources = c.k("api-resources")?;
    for (name, short, group, kind) in [
        ("pods", "po", "v1", "Pod"),
        ("deployments", "deploy", "apps/v1", "Deployment"),
        ("cronjobs", "cj", "batch/v1", "CronJob"),
        ("endpointslices", "", "discovery.k8s.io/v1", "EndpointSlice"),
    ] {
        let row =
            resources.lines().find(|l| l.starts_with(&format!("{name} ")) && l.contains(group)).unwrap_or_default();
        contains(row, &[name, short, group, kind])?;
    }
    contains(&c.k("api-versions")?, &["apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "v1"])?;
    contains(&c.k("version")?, &["Server Version: v1.36"])?;
    contains(&c.k("get events -A")?, &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE", "Normal"])?;
    contains(&c.k("cluster-info")?, &["is running at"])
}

pub fn apply_twice_label_and_annotate(c: &Cluster) -> anyhow::Result<()> {
    let manifest = "apiVersion: v1
kind: ConfigMap
metadata: {name: twice, labels: {keep: 'yes', drop: 'yes'}}
data: {a: '1', b: '2'}
";
    contains(&c.apply(manifest)?, &["configmap/twice created"])?;
    contains(&c.apply(manifest)?, &["configmap/twice unchanged"])?;
    let changed = manifest.replace(", drop: 'yes'", "").replace("b: '2'", "c: '3'");
    contains(&c.apply(&changed)?, &["configmap/twice configured"])?;
    ensure!(c.k("get configmap twice -o jsonpath={.data}")? == r#"{"a":"1","c":"3"}"#);
    ensure!(c.k("get configmap twice -o jsonpath={.metadata.labels}")? == r#"{"keep":"yes"}"#);
    c.k("label configmap twice color=red")?;
    contains(&c.refused(&["label", "configmap", "twice", "color=blue"])?, &["already has a value (red)"])?;
    c.k("label configmap twice color=blue --overwrite")?;
    contains(&c.k("get configmaps -l color=blue -o name")?, &["twice"])?;
    ensure!(c.k("get configmaps -l color!=blue,keep -o name")?.is_empty());
    c.k("annotate configmap twice note=hello")?;
    ensure!(c.k("get configmap twice -o jsonpath={.metadata.annotations.note}")? == "hello");
    c.k("label configmap twice color-")?;
    c.k("delete configmap twice")?;
    Ok(())
}
