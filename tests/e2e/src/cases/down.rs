//! The end: a second `up`, then `down`, after which the host is as it was, and `up` again, which has lost nothing.

use anyhow::ensure;

use super::{client, web};
use crate::cluster::{Cluster, PATIENCE, contains, eventually};
use crate::host::Snapshot;

pub fn a_second_up_finds_the_cluster(c: &Cluster) -> anyhow::Result<()> {
    let pid = c.pid("kube-apiserver")?;
    contains(&c.xtask_up(&[])?, &["is running", "kubeconfig:"])?;
    ensure!(c.pid("kube-apiserver")? == pid, "the API server was started again");
    Ok(())
}

pub fn nothing_is_left_behind_and_nothing_is_lost(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&web("kept", 2))?;
    c.apply(&client("kept-pod"))?;
    c.k("create configmap kept --from-literal=a=b")?;
    c.k("rollout status deployment/kept --timeout=60s")?;
    c.down()?;
    eventually(PATIENCE, || {
        let left = Snapshot::take()?.since(c.before());
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(())
    })?;
    c.xtask_up(&[])?;
    ensure!(c.k("get configmap kept -o jsonpath={.data.a}")? == "b");
    c.k("rollout status deployment/kept --timeout=90s")?;
    c.k("wait pod/kept-pod --for=condition=Ready --timeout=90s")?;
    c.k("delete deployment kept")?;
    c.k("delete pod/kept-pod configmap/kept --now")?;
    Ok(())
}
