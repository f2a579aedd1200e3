//! What containers leave behind when nobody asks their runtime to clean up: processes, shims with their sockets,
//! cgroups and mounts. Found by what belongs to the cluster, its directory and its nodes' cgroups, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::cluster::{Cluster, Node};
use crate::unit;

/// What containers get between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const DAEMONS: [&str; 10] = [
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-dns",
    "kube-podnet",
    "kube-proxy",
    "kube-scheduler",
    "kube-store",
    "kubelet",
];
const SHIM_SOCKETS: &str = "/run/containerd/s/";

/// Ends every process in the node's cgroups.
pub fn containers(nodes: &[Node]) -> anyhow::Result<()> {
    let roots: Vec<PathBuf> = nodes.iter().flat_map(cgroup_roots).collect();
    end(GRACE, || roots.iter().flat_map(|root| processes(root)).collect())
}

/// Ends daemons of the cluster that somebody has started by hand: no record tells of them, their flags do.
pub fn daemons(cluster: &Cluster, grace: Duration) -> anyhow::Result<()> {
    let own = format!("{}/", cluster.dir.display());
    end(grace, || all_processes().filter(|pid| is_daemon_of(&arguments(*pid), &own)).collect())
}

fn end(grace: Duration, find: impl Fn() -> BTreeSet<i32>) -> anyhow::Result<()> {
    for pid in find() {
        unit::signal(pid, Signal::SIGTERM);
    }
    let started = Instant::now();
    while !find().is_empty() {
        if started.elapsed() > grace + DEADLINE {
            bail!("processes {:?} do not end", find());
        }
        if started.elapsed() > grace {
            find().into_iter().for_each(|pid| unit::signal(pid, Signal::SIGKILL));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn arguments(pid: i32) -> Vec<String> {
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    cmdline.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

fn is_daemon_of(arguments: &[String], own: &str) -> bool {
    let Some((program, flags)) = arguments.split_first() else { return false };
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let value = |flag: &String| flag.split_once('=').map_or(flag.as_str(), |(_, value)| value).starts_with(own);
    DAEMONS.contains(&name) && flags.iter().any(value)
}

/// Ends the shims that serve containerds below the cluster's directory, and removes their sockets: also of those that
/// are gone, which containerd knows by the hash of its own address and the container's id.
pub fn shims(cluster: &Cluster, nodes: &[Node]) {
    let own = format!("{}/", cluster.dir.display());
    let mut sockets: Vec<PathBuf> = nodes.iter().flat_map(|node| known_sockets(&node.dir.join("containerd"))).collect();
    let find = || -> Vec<i32> { all_processes().filter(|pid| is_shim_of(*pid, &own)).collect() };
    for pid in find() {
        sockets.extend(shim_sockets(pid));
        unit::signal(pid, Signal::SIGKILL);
    }
    let started = Instant::now();
    while !find().is_empty() && started.elapsed() < DEADLINE {
        std::thread::sleep(POLL);
    }
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    // Made by the first shim of the host; only an empty one can be removed.
    let _ = fs::remove_dir(SHIM_SOCKETS);
}

fn known_sockets(containerd: &Path) -> Vec<PathBuf> {
    let tasks = children(&containerd.join("state/io.containerd.runtime.v2.task/k8s.io"));
    let socket = |task: &PathBuf| Some(shim_socket(containerd, task.file_name()?.to_str()?));
    tasks.iter().filter_map(socket).collect()
}

fn shim_socket(containerd: &Path, id: &str) -> PathBuf {
    let address = containerd.join("containerd.sock/k8s.io").join(id);
    Path::new(SHIM_SOCKETS).join(hex::encode(Sha256::digest(address.as_os_str().as_encoded_bytes())))
}

fn is_shim_of(pid: i32, own: &str) -> bool {
    let mut args = arguments(pid).into_iter();
    args.next().is_some_and(|program| program.contains("containerd-shim")) && args.any(|arg| arg.starts_with(own))
}

/// The paths of the sockets that a shim listens on.
fn shim_sockets(pid: i32) -> Vec<PathBuf> {
    let inodes: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let path = |line: &str| {
        let mut words = line.split_whitespace().skip(6);
        let (inode, path) = (words.next()?, words.next()?);
        (inodes.contains(inode) && path.starts_with(SHIM_SOCKETS)).then(|| PathBuf::from(path))
    };
    table.lines().filter_map(path).collect()
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The node's directory under each cgroup v1 controller, or under the unified hierarchy.
fn cgroup_roots(node: &Node) -> Vec<PathBuf> {
    let mut roots = vec![Path::new("/sys/fs/cgroup").join(&node.cgroup)];
    let controllers = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    roots.extend(controllers.map(|controller| controller.path().join(&node.cgroup)));
    roots.retain(|root| root.is_dir());
    roots
}

fn processes(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(cgroup) {
        pids.extend(processes(&child));
    }
    pids
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Removes the nodes' cgroups, which must be empty of processes.
pub fn cgroups(nodes: &[Node]) -> anyhow::Result<()> {
    for root in nodes.iter().flat_map(cgroup_roots) {
        remove_cgroup(&root)?;
    }
    Ok(())
}

fn remove_cgroup(cgroup: &Path) -> anyhow::Result<()> {
    for child in children(cgroup) {
        remove_cgroup(&child)?;
    }
    let started = Instant::now();
    loop {
        match fs::remove_dir(cgroup) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // A process that has just ended still counts for a moment.
            Err(_) if started.elapsed() < DEADLINE => std::thread::sleep(POLL),
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", cgroup.display())),
        }
    }
}

/// Unmounts everything below the directory, the innermost first.
pub fn mounts(directory: &Path) -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let own = format!("{}/", directory.display());
    let points: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| point.starts_with(&own))
        .collect();
    for point in points.iter().rev() {
        match umount2(point.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => bail!("cannot unmount {point}: {error}"),
        }
    }
    Ok(())
}

/// The mount table writes blanks as `\040` and the like.
fn unescape(point: &str) -> String {
    let mut parts = point.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(point: &str, expected: &str) {
        assert_eq!(unescape(point), expected);
    }

    #[test]
    fn a_daemon_is_known_by_its_flags() {
        let check = |line: &str, expected: bool| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(is_daemon_of(&arguments, "/d/c/"), expected, "{line}");
        };
        check("/x/kube-store --name=a --data-dir=/d/c/store", true);
        check("kubelet --root-dir /d/c/nodes/node-1", true);
        check("/x/kube-store --data-dir=/d/c2/store", false);
        check("/x/kube-store --name=a/d/c/", false);
        check("tail -f /d/c/log/kubelet.log", false);
        check("", false);
    }

    #[test]
    fn mount_points_are_unescaped() {
        check("/a/b", "/a/b");
        check("/a\\040b/c\\011", "/a b/c\t");
    }
}
