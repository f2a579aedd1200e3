//! The cluster under test, and the real kubectl to talk to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

use crate::host::Snapshot;

pub const NODES: u8 = 2;
/// How long anything may take that a user would wait for.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Warnings shown with the first failure.
const SHOWN_EVENTS: usize = 20;

/// Taken down when dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    root: PathBuf,
    before: Snapshot,
    changing: ReentrantMutex<()>,
}

impl Cluster {
    pub fn up() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("the repository")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let bin = match std::env::var("PROFILE").as_deref() {
            Ok("dev") => target.join("debug"),
            _ => target.join("release"),
        };
        let dir = tempfile::Builder::new().prefix("coxswain-e2e.").tempdir().context("temp dir")?;
        let cluster = Self { dir, bin, root, before: Snapshot::take()?, changing: ReentrantMutex::new(()) };
        cluster.xtask_up(&[])?;
        Ok(cluster)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the host looked like before the cluster.
    pub fn before(&self) -> &Snapshot {
        &self.before
    }

    /// `hack/up` without its build; also brings back what has been killed.
    pub fn xtask_up(&self, args: &[&str]) -> anyhow::Result<String> {
        let nodes = NODES.to_string();
        let dir = self.dir().display().to_string();
        let root = self.root.display().to_string();
        let mut all = vec!["up", "--root", &root, "--dir", &dir, "--nodes", &nodes];
        let store = std::env::var("COXSWAIN_STORE").unwrap_or_default();
        if !store.is_empty() {
            all.extend(["--store", &store]);
        }
        all.extend(args);
        self.xtask(&all)
    }

    /// Keeps `up` and `down` of others out for as long as it is held.
    pub fn alone(&self) -> ReentrantMutexGuard<'_, ()> {
        self.changing.lock()
    }

    pub fn xtask(&self, args: &[&str]) -> anyhow::Result<String> {
        let _alone = self.alone();
        let output =
            Command::new(self.bin.join("xtask")).args(args).output().context("xtask is not built: run hack/test")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "xtask {}:\n{text}", args.join(" "));
        Ok(text)
    }

    pub fn down(&self) -> anyhow::Result<String> {
        self.xtask(&["down", "--dir", &self.dir().display().to_string()])
    }

    /// Takes the cluster down; its logs are kept when a case has failed.
    pub fn finish(self, passed: bool) {
        if passed {
            return;
        }
        let kept = std::env::temp_dir().join("coxswain-e2e-logs");
        let _ = std::fs::remove_dir_all(&kept);
        let _ = Command::new("cp").arg("-r").arg(self.dir().join("log")).arg(&kept).status();
        println!("\nthe daemons' logs are in {}", kept.display());
    }

    /// What the nodes and the latest warnings say: the reason of a failure is often there, and not in the case.
    pub fn state(&self) -> String {
        let nodes = "custom-columns=NODE:.metadata.name,TRUE:.status.conditions[?(@.status==\"True\")].type,TAINTS:.spec.taints[*].key";
        let asked = [
            self.kubectl(&["get", "nodes", "-o", nodes]),
            self.kubectl(&["get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"]),
        ];
        let [nodes, events] = asked.map(|answer| answer.unwrap_or_else(|error| format!("{error:#}\n")));
        let latest: Vec<&str> = events.lines().rev().take(SHOWN_EVENTS).collect();
        nodes + &latest.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.dir().join("admin.conf"))
            .arg("--cache-dir")
            .arg(self.dir().join("kubectl-cache"));
        command.args(args);
        command
    }

    pub fn output(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.command(args).stdin(Stdio::null()).output().context("cannot run kubectl")
    }

    /// Must succeed; returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.output(args)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "kubectl {}: {}\n{out}{err}", args.join(" "), output.status);
        Ok(out.into_owned())
    }

    /// `kubectl` with one line of words.
    pub fn k(&self, line: &str) -> anyhow::Result<String> {
        self.kubectl(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Must fail; returns its complaint.
    pub fn refused(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.output(args)?;
        ensure!(!output.status.success(), "kubectl {} was not refused", args.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Feeds a manifest to `kubectl <args> -f -`.
    pub fn feed(&self, args: &[&str], manifest: &str) -> anyhow::Result<Output> {
        let mut command = self.command(args);
        let mut child =
            command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin is piped")?.write_all(manifest.as_bytes())?;
        child.wait_with_output().context("kubectl")
    }

    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let output = self.feed(&["apply"], manifest)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "apply: {out}{err}\n{manifest}");
        Ok(out.into_owned())
    }

    /// A kubectl that goes on running; killed when dropped.
    pub fn background(&self, args: &[&str]) -> anyhow::Result<Background> {
        let mut command = self.command(args);
        let log = tempfile::NamedTempFile::new()?;
        command.stdin(Stdio::null()).stdout(log.reopen()?).stderr(log.reopen()?);
        Ok(Background { child: command.spawn().context("cannot run kubectl")?, log })
    }

    /// Waits for `kubectl get ... -o jsonpath` to print exactly this.
    pub fn await_json(&self, get: &str, path: &str, expected: &str) -> anyhow::Result<()> {
        let mut args = vec!["get"];
        args.extend(get.split_whitespace());
        let path = format!("-o=jsonpath={path}");
        args.push(&path);
        let mut last = String::new();
        eventually(PATIENCE, || {
            last = self.kubectl(&args)?;
            ensure!(last == expected, "it is {last:?}");
            Ok(())
        })
        .with_context(|| format!("{get} {path} should be {expected:?}"))
    }

    /// The pid of a daemon started by `up`.
    pub fn pid(&self, unit: &str) -> anyhow::Result<i32> {
        let path = self.dir().join("run").join(format!("{unit}.pid"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        text.split(' ').next().and_then(|pid| pid.parse().ok()).with_context(|| format!("{}", path.display()))
    }

    /// What a daemon has printed.
    pub fn log(&self, unit: &str) -> anyhow::Result<String> {
        let path = self.dir().join("log").join(format!("{unit}.log"));
        std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&self, unit: &str) -> anyhow::Result<()> {
        self.signal(unit, Signal::SIGKILL)
    }

    /// SIGTERM, and wait until it is gone.
    pub fn stop(&self, unit: &str) -> anyhow::Result<()> {
        self.signal(unit, Signal::SIGTERM)
    }

    fn signal(&self, unit: &str, signal: Signal) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.pid(unit)?);
        nix::sys::signal::kill(pid, signal).with_context(|| unit.to_owned())?;
        eventually(PATIENCE, || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The first thread may have ended before those that hold the process's sockets.
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            ensure!(stat.is_empty() || stat.contains(") Z ") && threads <= 1, "{unit} is still there");
            Ok(())
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let dir = self.dir().display().to_string();
        if let Err(error) = self.xtask(&["down", "--wipe", "--dir", &dir]) {
            println!("the cluster could not be taken down: {error:#}");
        }
    }
}

#[derive(Debug)]
pub struct Background {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Background {
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    pub fn await_text(&self, expected: &str) -> anyhow::Result<()> {
        eventually(PATIENCE, || {
            ensure!(self.text().contains(expected), "no {expected:?} in {:?}", self.text());
            Ok(())
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until it succeeds or the time is up; then the last error counts.
pub fn eventually<T>(deadline: Duration, mut check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > deadline => {
                return Err(error.context(format!("not within {} s", deadline.as_secs())));
            }
            Err(_) => std::thread::park_timeout(POLL),
        }
    }
}

/// The text must hold every one of the words.
pub fn contains(text: &str, words: &[&str]) -> anyhow::Result<()> {
    match words.iter().find(|word| !text.contains(**word)) {
        Some(word) => bail!("no {word:?} in:\n{text}"),
        None => Ok(()),
    }
}
