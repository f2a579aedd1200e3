//! What this process has of the host: a network namespace that is the switch, a directory, a cgroup. All of it carries
//! the process's id in its name, so that a later run finds what a killed one left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};

use crate::flags::Flags;

pub const PREFIX: &str = "cxr-";
const BRIDGE: &str = "br0";
const CGROUPS: &str = "/sys/fs/cgroup/blkio";
/// The switch's own address; clients call from here.
pub const CLIENTS: &str = "10.213.0.254";
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Host {
    /// Names the switch's namespace, the directory and the cgroup.
    pub name: String,
    /// Disks, logs: gone in the end.
    pub dir: PathBuf,
    pub kube_store: PathBuf,
    kept: PathBuf,
}

/// Runs a command; its words are the error when it fails.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `run`, the words in one line.
pub fn sh(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    run(words[0], &words[1..])
}

impl Host {
    /// Makes the switch and moves this thread into it; before it has made others.
    pub fn enter(flags: &Flags) -> Result<Host> {
        ensure!(nix::unistd::geteuid().is_root(), "this must run as root: it makes network namespaces and mounts");
        let base = flags.dir.canonicalize().with_context(|| flags.dir.display().to_string())?;
        sweep(&base)?;
        let kube_store = flags.kube_store.canonicalize().with_context(|| flags.kube_store.display().to_string())?;
        let name = format!("{PREFIX}{}", std::process::id());
        let host = Host { dir: base.join(&name), kept: base.join("robustness-failures"), kube_store, name };
        fs::create_dir(&host.dir).with_context(|| format!("cannot create {}", host.dir.display()))?;
        sh(&format!("ip netns add {}", host.name))?;
        let namespace = File::open(format!("/run/netns/{}", host.name)).context("the namespace just made")?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
        sh("ip link set lo up")?;
        sh(&format!("ip link add {BRIDGE} type bridge forward_delay 0"))?;
        sh(&format!("ip address add {CLIENTS}/24 dev {BRIDGE}"))?;
        sh(&format!("ip link set {BRIDGE} up"))?;
        Ok(host)
    }

    /// Where what a failure leaves is kept.
    pub fn kept(&self) -> &Path {
        &self.kept
    }

    pub fn namespace(&self, member: usize) -> String {
        format!("{}-m{member}", self.name)
    }

    /// A namespace on the switch, for one member.
    pub fn plug(&self, member: usize, address: &str) -> Result<()> {
        let ns = self.namespace(member);
        sh(&format!("ip netns add {ns}"))?;
        sh(&format!("ip link add v{member} type veth peer name eth0 netns {ns}"))?;
        sh(&format!("ip link set v{member} master {BRIDGE} up"))?;
        sh(&format!("ip -n {ns} link set lo up"))?;
        sh(&format!("ip -n {ns} address add {address}/24 dev eth0"))?;
        sh(&format!("ip -n {ns} link set eth0 up"))?;
        Ok(())
    }

    pub fn unplug(&self, member: usize) -> Result<()> {
        // The far end goes with its namespace too, but in the kernel's own time.
        sh(&format!("ip link delete v{member}"))?;
        sh(&format!("ip netns delete {}", self.namespace(member))).map(drop)
    }

    /// A member's cgroup, made if it is not there.
    pub fn cgroup(&self, member: usize) -> Result<PathBuf> {
        let path = Path::new(CGROUPS).join(&self.name).join(format!("m{member}"));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("not everything could be removed: {error:#}");
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes what runs left that were killed.
fn sweep(base: &Path) -> Result<()> {
    let mut names: Vec<String> = listed(Path::new("/run/netns"));
    names.extend(listed(Path::new(CGROUPS)));
    names.extend(listed(base));
    names.extend(mounts()?.iter().filter_map(|point| {
        let part = Path::new(point).components().find(|c| c.as_os_str().to_string_lossy().starts_with(PREFIX))?;
        Some(part.as_os_str().to_string_lossy().into_owned())
    }));
    let mut owners: Vec<u32> = names.iter().filter_map(|name| owner(name)).collect();
    owners.sort_unstable();
    owners.dedup();
    for pid in owners.into_iter().filter(|pid| !is_ours(*pid)) {
        let name = format!("{PREFIX}{pid}");
        remove(&name)?;
        let _ = fs::remove_dir_all(base.join(name));
    }
    Ok(())
}

/// The process that a name belongs to.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_ours(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "robustness")
}

fn listed(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|name| name.starts_with(PREFIX)).collect()
}

fn mounts() -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(ToOwned::to_owned).collect())
}

/// Mounts, namespaces and cgroups of one run. Its processes are gone: each dies with the one that started it.
fn remove(name: &str) -> Result<()> {
    let below = format!("/{name}/");
    for point in mounts()?.iter().filter(|point| point.contains(&below)) {
        umount2(point.as_str(), MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {point}"))?;
    }
    for ns in listed(Path::new("/run/netns")).iter().filter(|ns| owner(ns) == owner(name)) {
        sh(&format!("ip netns delete {ns}"))?;
    }
    let cgroup = Path::new(CGROUPS).join(name);
    for child in fs::read_dir(&cgroup).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_cgroup(&child.path())?;
    }
    if cgroup.exists() { remove_cgroup(&cgroup) } else { Ok(()) }
}

fn remove_cgroup(path: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            // A process that has just ended still counts for a moment.
            Err(_) if begun.elapsed() < DEADLINE => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_owner() {
        assert_eq!(owner("cxr-12"), Some(12));
        assert_eq!(owner("cxr-12-m1"), Some(12));
        assert_eq!(owner("cox-12"), None);
    }
}
