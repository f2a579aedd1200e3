//! One member: its process, its disk, its log.

use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::disk::Disk;
use crate::host::Host;

#[derive(Debug)]
pub struct Member {
    pub n: usize,
    pub disk: Disk,
    pub log: PathBuf,
    pub cgroup: PathBuf,
    namespace: String,
    kube_store: PathBuf,
    /// Those that every start has, and those of the last.
    flags: Vec<String>,
    id: AtomicU64,
    child: Mutex<Option<Child>>,
}

pub fn address(n: usize) -> String {
    format!("10.213.0.{}", n + 1)
}

pub fn name(n: usize) -> String {
    format!("m{n}")
}

pub fn peer_url(n: usize) -> String {
    format!("http://{}:2380", address(n))
}

pub fn client_url(n: usize) -> String {
    format!("http://{}:2379", address(n))
}

impl Member {
    pub fn new(host: &Host, n: usize, logs: &Path, flags: &[&str]) -> Result<Member> {
        host.plug(n, &address(n))?;
        Ok(Member {
            n,
            disk: Disk::make(&host.dir, &name(n))?,
            log: logs.join(format!("{}.log", name(n))),
            cgroup: host.cgroup(n)?,
            namespace: host.namespace(n),
            kube_store: host.kube_store.clone(),
            flags: flags.iter().map(ToString::to_string).collect(),
            id: AtomicU64::new(0),
            child: Mutex::new(None),
        })
    }

    pub fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    pub fn set_id(&self, id: u64) {
        self.id.store(id, Ordering::Relaxed);
    }

    fn data(&self) -> PathBuf {
        self.disk.point.join("data")
    }

    /// Starts the process on the data that is there. It dies with the thread that starts it.
    pub fn start(&self, initial_cluster: &str, state: &str) -> Result<()> {
        let mut child = self.child.lock().expect("no holder panics");
        ensure!(child.is_none(), "{} runs already", name(self.n));
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let (any, own) = (|port: u16| format!("http://0.0.0.0:{port}"), name(self.n));
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter", &format!("--net=/run/netns/{}", self.namespace), "--"])
            .arg(&self.kube_store)
            .args(["--name", &own, "--data-dir"])
            .arg(self.data())
            .args(["--listen-client-urls", &any(2379), "--advertise-client-urls", &client_url(self.n)])
            .args(["--listen-peer-urls", &any(2380), "--initial-advertise-peer-urls", &peer_url(self.n)])
            .args(["--listen-metrics-urls", &any(2381)])
            .args(["--initial-cluster", initial_cluster, "--initial-cluster-state", state])
            .args(&self.flags)
            // A signal from the keyboard is for the one who cleans up.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let started = command.spawn().context("cannot run setpriv")?;
        fs::write(self.cgroup.join("cgroup.procs"), started.id().to_string()).context("cannot move into the cgroup")?;
        *child = Some(started);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.lock().expect("no holder panics");
        let child = child.as_ref().with_context(|| format!("{} does not run", name(self.n)))?;
        let pid = i32::try_from(child.id()).context("a process id")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", name(self.n)))
    }

    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// As if it had never been: SIGKILL, and gone when this returns.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.child.lock().expect("no holder panics").take() {
            child.kill().context("cannot kill")?;
            child.wait().context("cannot wait")?;
        }
        Ok(())
    }

    /// As an init system would. The exit must be clean.
    pub async fn terminate(&self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let Some(status) = self.await_end(patience).await? else {
            bail!("{} does not end within {patience:?} of SIGTERM", name(self.n));
        };
        ensure!(status.success(), "{} ended with {status} after SIGTERM", name(self.n));
        Ok(())
    }

    /// How it ended, if it did in time.
    pub async fn await_end(&self, patience: Duration) -> Result<Option<ExitStatus>> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if tokio::time::Instant::now() > deadline {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How it ended, if it did by itself. It can be started again then.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.child.lock().expect("no holder panics");
        let Some(running) = child.as_mut() else { return Ok(None) };
        let ended = running.try_wait().context("cannot wait")?;
        if ended.is_some() {
            *child = None;
        }
        Ok(ended)
    }

    pub fn runs(&self) -> bool {
        self.child.lock().expect("no holder panics").is_some()
    }

    /// The processor time that its process has taken so far.
    pub fn busy(&self) -> Result<Duration> {
        let child = self.child.lock().expect("no holder panics");
        let id = child.as_ref().with_context(|| format!("{} does not run", name(self.n)))?.id();
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("cannot read the process's times")?;
        // Behind the name, which may hold anything: user and system time, in hundredths of a second.
        let words = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').skip(11).take(2)).into_iter().flatten();
        Ok(Duration::from_millis(words.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * 10))
    }

    /// A member that nobody has told to may not end.
    pub fn assert_running(&self) -> Result<()> {
        match self.ended()? {
            Some(status) => bail!("{} ended by itself: {status} (signal {:?})", name(self.n), status.signal()),
            None => Ok(()),
        }
    }

    pub fn wipe(&self) -> Result<()> {
        fs::remove_dir_all(self.data()).context("cannot wipe the data")
    }

    /// The log of all its processes.
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.disk.thaw();
        let _ = self.kill();
    }
}
