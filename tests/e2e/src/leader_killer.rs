//! Kills the store's leader again and again while the cases run: `COXSWAIN_STORE=3 COXSWAIN_KILL_LEADER=20` does so every
//! 20 seconds. What is killed is brought back, as a service manager would.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context;

use crate::cluster::Cluster;

/// How often, if at all.
pub fn interval() -> Option<Duration> {
    std::env::var("COXSWAIN_KILL_LEADER").ok()?.parse().ok().map(Duration::from_secs)
}

/// Runs until the other end of `stop` is dropped; returns how many leaders it has killed.
pub fn run(cluster: &Cluster, every: Duration, stop: &Receiver<()>) -> usize {
    let mut killed = 0;
    while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        match kill(cluster) {
            Ok(()) => killed += 1,
            Err(error) => println!("no leader was killed: {error:#}"),
        }
    }
    killed
}

fn kill(cluster: &Cluster) -> anyhow::Result<()> {
    let members = std::fs::read_dir(cluster.dir().join("run"))?.flatten();
    let names = members.filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".pid")?.to_owned()));
    let mut stores = names.filter(|name| name.starts_with("kube-store"));
    let leader = stores.find(|name| leads(cluster, name).unwrap_or(false)).context("nobody leads")?;
    let _alone = cluster.alone();
    cluster.kill(&leader)?;
    cluster.xtask_up(&[]).map(drop)
}

fn leads(cluster: &Cluster, unit: &str) -> anyhow::Result<bool> {
    let words = std::fs::read(Path::new("/proc").join(cluster.pid(unit)?.to_string()).join("cmdline"))?;
    let words = String::from_utf8_lossy(&words).into_owned();
    let url = words.split('\0').find_map(|word| word.strip_prefix("--listen-metrics-urls=")).context("no metrics")?;
    let output = Command::new("curl").args(["-sf", "--max-time", "2", &format!("{url}/metrics")]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "etcd_server_is_leader 1"))
}
