//! What a cluster could leave behind on its host, written down so that before and after can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::Context;

/// Lines, each something that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub fn take() -> anyhow::Result<Self> {
        let mut lines = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("mounts")?;
        lines.extend(mounts.lines().filter_map(|l| l.split(' ').nth(4)).map(|point| format!("mount {point}")));
        lines.extend(names("/sys/class/net")?.map(|name| format!("link {name}")));
        lines.extend(names("/run/netns").into_iter().flatten().map(|name| format!("namespace {name}")));
        lines.extend(names("/run/containerd/s").into_iter().flatten().map(|name| format!("shim socket {name}")));
        lines.extend(names("/var/lib/cni/results").into_iter().flatten().map(|name| format!("CNI result {name}")));
        lines.extend(rules()?);
        lines.extend(cgroups());
        lines.extend(processes());
        Ok(Self(lines))
    }

    /// What is there now and was not before.
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn names(dir: &str) -> std::io::Result<impl Iterator<Item = String> + use<>> {
    Ok(fs::read_dir(dir)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()))
}

/// Rules and chains of our own; an empty table with the kernel's own chains is no rule.
fn rules() -> anyhow::Result<Vec<String>> {
    let output = Command::new("iptables-save").output().context("iptables-save")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let own = |line: &&str| line.starts_with("-A") || (line.starts_with(':') && line.contains(" - "));
    let strip = |line: &str| line.split(" [").next().unwrap_or(line).to_owned();
    Ok(text.lines().filter(own).map(|line| format!("rule {}", strip(line))).collect())
}

fn cgroups() -> Vec<String> {
    let controllers = names("/sys/fs/cgroup").into_iter().flatten();
    controllers
        .flat_map(|c| names(&format!("/sys/fs/cgroup/{c}")).into_iter().flatten().map(move |n| format!("{c}/{n}")))
        .filter(|path| path.contains("/cox"))
        .map(|path| format!("cgroup {path}"))
        .collect()
}

/// Processes that a cluster starts, by program; others on the host come and go as they like.
fn processes() -> Vec<String> {
    const OURS: [&str; 12] = [
        "kube-store",
        "kube-apiserver",
        "kube-scheduler",
        "kube-controller",
        "kubelet",
        "kube-proxy",
        "kube-podnet",
        "kube-dns",
        "containerd",
        "pause",
        "runc",
        "web",
    ];
    let comm = |pid: String| {
        pid.parse::<u32>().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // A zombie is its parent's to collect, and no process any more.
        if stat.rsplit_once(") ")?.1.starts_with('Z') {
            return None;
        }
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        OURS.iter().any(|name| comm.trim().starts_with(name)).then(|| format!("process {pid} {}", comm.trim()))
    };
    names("/proc").into_iter().flatten().filter_map(comm).collect()
}
