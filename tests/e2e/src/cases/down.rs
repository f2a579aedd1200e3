//! The end: a second `up`, then `down`, after which the host is as it was, and `up` again, which has lost nothing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::{client, web};
use crate::cluster::{Cluster, PATIENCE, contains, eventually};
use crate::host::Snapshot;

pub fn a_second_up_finds_the_cluster(c: &Cluster) -> anyhow::Result<()> {
    let pid = c.pid("kube-apiserver")?;
    contains(&c.xtask_up(&[])?, &["is running", "kubeconfig:"])?;
    ensure!(c.pid("kube-apiserver")? == pid, "the API server was started again");
    Ok(())
}

/// A daemon whose port somebody else holds: `up` says which step failed, and what its log says.
pub fn a_daemon_that_cannot_start_is_named(c: &Cluster) -> anyhow::Result<()> {
    c.kill("kube-scheduler")?;
    let server = c.k("config view -o jsonpath={.clusters[0].cluster.server}")?;
    let host = server.trim_start_matches("https://").split(':').next().context("a host")?.to_owned();
    let taken = std::net::TcpListener::bind((host.as_str(), 10259))?;
    let failure = format!("{:#}", c.xtask_up(&[]).err().context("up did not notice")?);
    let step = "FAIL start controllers and scheduler";
    contains(&failure, &[step, "kube-scheduler ended", "log/kube-scheduler.log", "Address already in use"])?;
    drop(taken);
    c.xtask_up(&[])?;
    // Nobody waits for the node to become Ready without its kubelet.
    let pid = c.pid("node-1.kubelet")?.to_string();
    let netns = Command::new("ip").args(["netns", "identify", &pid]).output()?;
    let netns = String::from_utf8(netns.stdout)?.trim().to_owned();
    c.kill("node-1.kubelet")?;
    let listen = ["netns", "exec", &netns, "socat", "TCP-LISTEN:10250,reuseaddr", "EXEC:cat"];
    let mut taken = Command::new("ip").args(listen).spawn()?;
    let listens = || {
        let sockets = Command::new("ip").args(["netns", "exec", &netns, "cat", "/proc/net/tcp"]).output()?;
        // The port 10250 of any address, listened on.
        ensure!(String::from_utf8_lossy(&sockets.stdout).contains(":280A 00000000:0000 0A"), "socat does not listen");
        Ok(())
    };
    let failure = eventually(PATIENCE, listens).and_then(|()| c.xtask_up(&[]).err().context("up did not notice"));
    taken.kill()?;
    taken.wait()?;
    let words = ["node-1.kubelet ended", "log/node-1.kubelet.log", "Address already in use"];
    contains(&format!("{:#}", failure?), &words)?;
    c.xtask_up(&[]).map(drop)
}

/// A second cluster comes while the first one is stopped, and takes nothing that is the first one's. It leaves nothing,
/// though somebody has removed its bridge.
pub fn a_stopped_cluster_keeps_its_addresses(c: &Cluster) -> anyhow::Result<()> {
    c.down()?;
    let other = tempfile::Builder::new().prefix("coxswain-e2e-other.").tempdir()?;
    // However the directory is named.
    let name = format!("{}/", other.path().display());
    let before = Snapshot::take()?;
    let came = c.xtask(&["up", "--root", &c.root().display().to_string(), "--dir", &name]);
    let cut_off = remove_bridge(&other.path().display().to_string());
    let went = c.xtask(&["down", "--wipe", "--dir", &name]);
    came?;
    cut_off?;
    went?;
    eventually(PATIENCE, || {
        let left = Snapshot::take()?.since(&before);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(())
    })?;
    ensure!(!other.path().exists(), "--wipe left the data");
    c.xtask_up(&[]).map(drop)
}

/// The bridge of the cluster in a directory says so.
fn remove_bridge(dir: &str) -> anyhow::Result<()> {
    let links = std::fs::read_dir("/sys/class/net")?.flatten();
    let alias = |link: &Path| std::fs::read_to_string(link.join("ifalias")).unwrap_or_default();
    let bridge = links.map(|link| link.path()).find(|link| alias(link).trim() == dir).context("no bridge")?;
    let name = bridge.file_name().and_then(|name| name.to_str()).context("a name")?;
    let removed = Command::new("ip").args(["link", "delete", name]).status()?;
    ensure!(removed.success(), "cannot remove {name}");
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
