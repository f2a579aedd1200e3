//! The other workloads, and owners with their dependents.

use anyhow::ensure;

use super::web;
use crate::cluster::{Cluster, PATIENCE, contains, eventually};

pub fn stateful_sets_are_ordered(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: 'coxswain/web:v1'}]
",
    )?;
    contains(&c.k("rollout status statefulset/db --timeout=60s")?, &["complete"])?;
    let name = |n| c.kubectl(&["exec", &format!("db-{n}"), "--", "hostname"]);
    ensure!(name(0)? == "db-0\n" && name(1)? == "db-1\n");
    eventually(PATIENCE, || {
        contains(
            &c.kubectl(&[
                "exec",
                "db-0",
                "--",
                "timeout",
                "5",
                "wget",
                "-q",
                "-O",
                "-",
                "http://db-1.db:8080/hostname",
            ])?,
            &["db-1"],
        )
    })?;
    c.k("delete pod db-0")?;
    c.k("wait pod/db-0 --for=condition=Ready --timeout=60s")?;
    c.k("delete statefulset,service db")?;
    c.await_json("pods -l app=db", "{.items}", "[]")
}

pub fn daemon_sets_cover_the_nodes(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: 'coxswain/web:v1'}]
",
    )?;
    contains(&c.k("rollout status daemonset/agent --timeout=60s")?, &["successfully rolled out"])?;
    let nodes = c.k("get pods -l app=agent -o jsonpath={.items[*].spec.nodeName}")?;
    contains(&nodes, &["node-1", "node-2"])?;
    c.k("delete daemonset agent")?;
    c.await_json("pods -l app=agent", "{.items}", "[]")
}

pub fn jobs_complete_and_cron_jobs_start_them(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: batch/v1
kind: Job
metadata: {name: three}
spec:
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: work, image: 'busybox:1.36', command: [sh, -c, 'echo done']}]
",
    )?;
    c.k("wait job/three --for=condition=Complete --timeout=60s")?;
    ensure!(c.k("get job three -o jsonpath={.status.succeeded}")? == "3");
    contains(&c.k("get job three")?, &["Complete", "3/3"])?;
    c.k("create cronjob often --image=busybox:1.36 --schedule=*/1\u{20}*\u{20}*\u{20}*\u{20}*").or_else(|_| {
        c.kubectl(&["create", "cronjob", "often", "--image=busybox:1.36", "--schedule=*/1 * * * *", "--", "true"])
    })?;
    c.k("create job now --from=cronjob/often")?;
    c.k("wait job/now --for=condition=Complete --timeout=60s")?;
    eventually(PATIENCE * 2, || {
        let started = c.k("get jobs -o jsonpath={.items[*].metadata.ownerReferences[*].name}")?;
        ensure!(started.split(' ').filter(|n| *n == "often").count() >= 1, "no job was started: {started}");
        let last = c.k("get cronjob often -o jsonpath={.status.lastScheduleTime}")?;
        ensure!(!last.is_empty(), "never scheduled");
        Ok(())
    })?;
    c.k("delete cronjob often")?;
    c.k("delete job three now --ignore-not-found")?;
    c.await_json("jobs", "{.items}", "[]")
}

/// A Job that leaves its pods behind leaves no finalizer on them.
pub fn pods_left_behind_by_their_job_can_go(c: &Cluster) -> anyhow::Result<()> {
    c.k("create job left --image=busybox:1.36 -- sleep 300")?;
    c.await_json("job left", "{.status.active}", "1")?;
    c.k("delete job left --cascade=orphan")?;
    c.await_json("pods -l batch.kubernetes.io/job-name=left", "{.items[*].metadata.finalizers}", "")?;
    c.k("delete pods -l batch.kubernetes.io/job-name=left --now --timeout=60s").map(drop)
}

pub fn owners_take_their_dependents_along(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&web("owner", 1))?;
    c.k("rollout status deployment/owner --timeout=60s")?;
    c.k("delete deployment owner --cascade=orphan")?;
    c.await_json("replicasets -l app=owner", "{.items[0].metadata.ownerReferences}", "")?;
    c.apply(&web("owner", 1))?;
    c.k("rollout status deployment/owner --timeout=60s")?;
    let sets = c.k("get replicasets -l app=owner -o name")?;
    ensure!(sets.lines().count() == 1, "the orphan was adopted again: {sets}");
    c.k("delete deployment owner --cascade=foreground --timeout=60s")?;
    let left = c.k("get replicasets,pods -l app=owner -o name")?;
    ensure!(left.is_empty(), "foreground deletion waits for dependents: {left}");
    c.apply(&web("owner", 1))?;
    c.k("delete deployment owner")?;
    c.await_json("replicasets,pods -l app=owner", "{.items}", "[]")
}
