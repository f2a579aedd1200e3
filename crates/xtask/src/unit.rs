//! Long-running processes that outlive this one: started detached with a log file, found again by a pid file that
//! cannot be fooled by a reused pid, stopped with a deadline.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use crate::cluster::Cluster;

const POLL: Duration = Duration::from_millis(10);
/// Lines of a log shown when its daemon fails.
pub const LOG_TAIL: usize = 15;

/// A daemon: what is run, and where.
#[derive(Clone, Debug)]
pub struct Unit {
    /// `kube-apiserver`, `node-1.kubelet`: names the log and the pid file.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The network namespace to run in.
    pub netns: Option<String>,
}

impl Unit {
    pub fn new(name: impl Into<String>, program: PathBuf) -> Self {
        Self { name: name.into(), program, args: Vec::new(), netns: None }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// `--flag=value`
    #[must_use]
    pub fn flag(mut self, flag: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut arg = OsString::from(format!("--{flag}="));
        arg.push(value);
        self.args.push(arg);
        self
    }

    #[must_use]
    pub fn in_netns(mut self, netns: &str) -> Self {
        self.netns = Some(netns.to_owned());
        self
    }

    /// Starts the daemon unless it runs already; true when it was started.
    pub fn ensure(&self, cluster: &Cluster) -> anyhow::Result<bool> {
        if running(cluster, &self.name).is_some() {
            return Ok(false);
        }
        let pid = self.spawn(&cluster.log(&self.name))?;
        let record = format!("{pid} {}", start_time(pid).unwrap_or_default());
        kubeadm::files::write(&cluster.pid_file(&self.name), &record, kubeadm::files::PUBLIC)?;
        Ok(true)
    }

    fn spawn(&self, log: &Path) -> anyhow::Result<i32> {
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let open = || fs::OpenOptions::new().create(true).append(true).open(log);
        let out = open().with_context(|| format!("cannot open {}", log.display()))?;
        let err = out.try_clone().context("cannot share the log")?;
        let netns = match &self.netns {
            Some(name) => {
                Some(fs::File::open(Path::new("/run/netns").join(name)).with_context(|| format!("namespace {name}"))?)
            }
            None => None,
        };
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(out).stderr(err).current_dir("/");
        // An error's backtrace would push its words out of the last lines of the log; a panic keeps its own.
        command.env("RUST_LIB_BACKTRACE", "0");
        // SAFETY: only async-signal-safe system calls are made between fork and exec; nothing allocates.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || {
                setsid()?;
                if let Some(netns) = &netns {
                    setns(netns, CloneFlags::CLONE_NEWNET)?;
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        i32::try_from(child.id()).context("pids fit an i32")
    }

    /// Waits until `ready` says so; fails at once when the daemon ends, and after the deadline.
    pub fn wait(&self, cluster: &Cluster, deadline: Duration, ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            // Something else may answer in the place of a daemon that has ended: it must run before and after.
            let answers = running(cluster, &self.name).is_some() && ready();
            if running(cluster, &self.name).is_none() {
                bail!("{} ended", self.name);
            }
            if answers {
                return Ok(());
            }
            if started.elapsed() > deadline {
                bail!("{} was not ready within {} s", self.name, deadline.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The pid recorded for a unit, when that very process still runs.
pub fn running(cluster: &Cluster, unit: &str) -> Option<i32> {
    let record = fs::read_to_string(cluster.pid_file(unit)).ok()?;
    let (pid, start) = record.trim().split_once(' ')?;
    let pid: i32 = pid.parse().ok()?;
    reap(pid);
    (start_time(pid).as_deref() == Some(start)).then_some(pid)
}

/// Whether a unit, and not somebody else on the host, listens on a TCP port.
pub fn listens(cluster: &Cluster, unit: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let Some(pid) = running(cluster, unit) else { return false };
    let own: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let suffix = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().skip(1).any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(words.as_slice(), [_, local, _, LISTEN, _, _, _, _, _, inode, ..]
                if local.ends_with(&suffix) && own.contains(*inode))
        })
    })
}

/// Daemons started by this very process become zombies when they end: collect them.
fn reap(pid: i32) {
    let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
}

fn start_time(pid: i32) -> Option<String> {
    start_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of /proc/PID/stat: with the pid it names a process for good. A zombie is no process, unless only its first
/// thread has ended: until the last has, its sockets are open.
fn start_of(stat: &str) -> Option<String> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, threads, start) = (fields.first()?, fields.get(17)?, fields.get(19)?);
    let ended = matches!(*state, "Z" | "X") && threads.parse().is_ok_and(|threads: u32| threads <= 1);
    (!ended).then(|| (*start).to_owned())
}

/// SIGTERM to all, SIGKILL to those that are still there after the deadline.
pub fn stop(cluster: &Cluster, units: &[String], deadline: Duration) {
    let alive = || -> Vec<(&String, i32)> { units.iter().filter_map(|u| Some((u, running(cluster, u)?))).collect() };
    for (_, pid) in alive() {
        signal(pid, Signal::SIGTERM);
    }
    let started = Instant::now();
    while !alive().is_empty() && started.elapsed() < deadline {
        std::thread::sleep(POLL);
    }
    for (_, pid) in alive() {
        signal(pid, Signal::SIGKILL);
    }
    while !alive().is_empty() {
        std::thread::sleep(POLL);
    }
    for unit in units {
        let _ = fs::remove_file(cluster.pid_file(unit));
    }
}

/// A process that is gone has nothing left to be told.
pub fn signal(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => eprintln!("cannot signal process {pid}: {error}"),
    }
}

/// The units that have a pid file, alive or not.
pub fn recorded(cluster: &Cluster) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cluster.dir.join("run")) else { return Vec::new() };
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().strip_suffix(".pid").map(ToOwned::to_owned);
    let mut units: Vec<String> = entries.flatten().filter_map(name).collect();
    units.sort();
    units
}

/// The last lines of a unit's log.
pub fn tail(cluster: &Cluster, unit: &str) -> String {
    let text = fs::read_to_string(cluster.log(unit)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::start_of;

    fn stat(state: &str, threads: u32) -> String {
        format!("7 (a) b) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0")
    }

    #[test]
    fn a_process_has_ended_with_its_last_thread() {
        let began = |state, threads| start_of(&stat(state, threads));
        assert_eq!(began("S", 3).as_deref(), Some("4711"));
        assert_eq!(began("Z", 2).as_deref(), Some("4711"), "another thread holds the sockets");
        assert_eq!(began("Z", 1), None);
        assert_eq!(began("X", 0), None);
        assert_eq!(start_of("7 (cut"), None);
    }
}
