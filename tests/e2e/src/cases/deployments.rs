//! Deployments: scaling, new images, rollout status, history and undo.

use anyhow::ensure;

use super::web;
use crate::cluster::{Cluster, contains};

pub fn scale_image_rollout_and_undo(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&web("rolling", 2))?;
    contains(&c.k("rollout status deployment/rolling --timeout=60s")?, &["successfully rolled out"])?;
    c.k("scale deployment rolling --replicas=4")?;
    c.await_json("deployment rolling", "{.status.readyReplicas}", "4")?;
    c.k("scale deployment rolling --replicas=2")?;
    c.await_json("deployment rolling", "{.status.replicas}", "2")?;
    c.k("set image deployment/rolling web=coxswain/web:v2")?;
    c.k("rollout status deployment/rolling --timeout=60s")?;
    contains(&c.k("get pods -l app=rolling -o jsonpath={.items[*].spec.containers[0].image}")?, &["web:v2"])?;
    let history = c.k("rollout history deployment/rolling")?;
    ensure!(history.lines().filter(|l| l.starts_with(['1', '2'])).count() == 2, "{history}");
    contains(&c.k("rollout history deployment/rolling --revision=1")?, &["coxswain/web:v1"])?;
    contains(&c.k("rollout undo deployment/rolling")?, &["rolled back"])?;
    c.k("rollout status deployment/rolling --timeout=60s")?;
    ensure!(c.k("get deployment rolling -o jsonpath={.spec.template.spec.containers[0].image}")? == "coxswain/web:v1");
    let history = c.k("rollout history deployment/rolling")?;
    ensure!(history.lines().filter(|l| l.starts_with(['2', '3'])).count() == 2, "revision 1 became 3:\n{history}");
    c.k("rollout restart deployment/rolling")?;
    c.k("rollout status deployment/rolling --timeout=60s")?;
    contains(
        &c.k("describe deployment rolling")?,
        &["ScalingReplicaSet", "Scaled up replica set", "NewReplicaSetAvailable", "MinimumReplicasAvailable"],
    )?;
    c.k("delete deployment rolling")?;
    c.await_json("pods -l app=rolling", "{.items}", "[]")
}

pub fn run_and_expose(c: &Cluster) -> anyhow::Result<()> {
    c.k("run single --image=coxswain/web:v2 --port=8080 --labels=app=single")?;
    c.k("expose pod single --port=80 --target-port=8080")?;
    c.k("wait pod/single --for=condition=Ready --timeout=60s")?;
    c.await_json("endpoints single", "{.subsets[0].ports[0].port}", "8080")?;
    let answer = c.k(
        "run asker --image=busybox:1.36 --restart=Never --rm -i -q -- timeout 10 wget -q -O - http://single/version",
    )?;
    contains(&answer, &["v2"])?;
    c.k("delete service,pod single --now")?;
    Ok(())
}
