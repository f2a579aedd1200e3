//! `kill -9` of each daemon in turn: what should go on goes on, and everything comes back from its own state.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{client, web};
use crate::cluster::{Cluster, PATIENCE, contains, eventually};

/// The daemons whose death no request through a Service may notice, besides the store's.
const DAEMONS: [&str; 10] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-dns",
    "node-1.kubelet",
    "node-1.kube-proxy",
    "node-1.kube-podnet",
    "node-2.kubelet",
    "node-2.kube-proxy",
    "node-2.kube-podnet",
];

pub fn a_deployment_serves_while_daemons_are_killed(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&web("steady", 2))?;
    c.k("expose deployment steady --port=8080")?;
    c.apply(&client("witness"))?;
    c.k("rollout status deployment/steady --timeout=60s")?;
    c.k("wait pod/witness --for=condition=Ready --timeout=60s")?;
    c.await_json(
        "endpointslices -l kubernetes.io/service-name=steady",
        "{.items[*].endpoints[*].conditions.ready}",
        "true true",
    )?;
    let before = containers(c)?;
    let objects = c.k("get deployments,services,configmaps,secrets,namespaces -A -o name")?;
    let traffic = Traffic::start(c)?;
    let store = if c.dir().join("run/etcd.pid").exists() { "etcd" } else { "kube-store" };
    for daemon in [store].into_iter().chain(DAEMONS) {
        c.kill(daemon)?;
        traffic.more(5).with_context(|| format!("while {daemon} is dead"))?;
        c.xtask_up(&[]).with_context(|| format!("{daemon} does not come back"))?;
        traffic.more(2).with_context(|| format!("after {daemon} came back"))?;
    }
    traffic.stop()?;
    eventually(PATIENCE, || {
        ensure!(
            c.k("get deployments,services,configmaps,secrets,namespaces -A -o name")? == objects,
            "objects were lost"
        );
        c.k("wait node --all --for=condition=Ready --timeout=5s").map(drop)
    })?;
    let after = containers(c)?;
    ensure!(before == after, "containers were restarted needlessly:\n{before}\n{after}");
    c.k("scale deployment steady --replicas=3")?;
    c.await_json("deployment steady", "{.status.readyReplicas}", "3")?;
    c.k("delete deployment,service steady")?;
    c.k("delete pod witness --now")?;
    Ok(())
}

/// Container ids with their restart counts.
fn containers(c: &Cluster) -> anyhow::Result<String> {
    let path = "-o=jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    c.kubectl(&["get", "pods", "-l", "app in (steady,witness)", path])
}

/// Requests through the Service from within a pod, by the Service's address, without the API server's help.
struct Traffic {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    /// What the requests that failed said.
    failed: Arc<Mutex<Vec<String>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Traffic {
    /// Begins when the Service answers: the rules of a node follow the endpoints a moment later.
    fn start(c: &Cluster) -> anyhow::Result<Self> {
        let address = c.k("get service steady -o jsonpath={.spec.clusterIP}")?;
        let id = c.k("get pod witness -o jsonpath={.status.containerStatuses[0].containerID}")?;
        let node = c.k("get pod witness -o jsonpath={.spec.nodeName}")?;
        let pid = task_pid(c, &node, id.trim_start_matches("containerd://"))?;
        let url = format!("http://{address}:8080/hostname");
        eventually(PATIENCE, || request(pid, &url))?;
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let failed = Arc::<Mutex<Vec<String>>>::default();
        let (s, ok, bad) = (stop.clone(), served.clone(), failed.clone());
        let thread = std::thread::spawn(move || {
            while !s.load(Ordering::Relaxed) {
                match request(pid, &url) {
                    Ok(()) => drop(ok.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => lock(&bad).push(format!("{error:#}")),
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        Ok(Self { stop, served, failed, thread })
    }

    /// Waits for so many more answers; any failure counts at once.
    fn more(&self, requests: usize) -> anyhow::Result<()> {
        let goal = self.served.load(Ordering::Relaxed) + requests;
        eventually(PATIENCE, || {
            ensure!(
                self.served.load(Ordering::Relaxed) >= goal,
                "the Service does not answer: {:?}",
                lock(&self.failed)
            );
            Ok(())
        })?;
        all_served(&self.failed)
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        all_served(&self.failed)
    }
}

fn all_served(failed: &Mutex<Vec<String>>) -> anyhow::Result<()> {
    let failed = lock(failed);
    ensure!(failed.is_empty(), "requests failed: {failed:?}");
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request from within the network namespace of the process.
fn request(pid: i32, url: &str) -> anyhow::Result<()> {
    let args = ["-t", &pid.to_string(), "-n", "timeout", "5", "busybox", "wget", "-q", "-O", "-", url];
    let output = std::process::Command::new("nsenter").args(args).output()?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn task_pid(c: &Cluster, node: &str, id: &str) -> anyhow::Result<i32> {
    let socket = c.dir().join("nodes").join(node).join("containerd/containerd.sock");
    let output =
        std::process::Command::new("ctr").arg("-a").arg(&socket).args(["-n", "k8s.io", "tasks", "ls"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|l| l.starts_with(id)).with_context(|| format!("no task {id}:\n{text}"))?;
    line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).context("ctr prints the pid second")
}

pub fn containers_outlive_their_kubelet(c: &Cluster) -> anyhow::Result<()> {
    c.kubectl(&[
        "run",
        "outlive",
        "--image=busybox:1.36",
        "--labels=app=outlive",
        "--restart=Always",
        "--",
        "sh",
        "-c",
        "echo begun; sleep infinity",
    ])?;
    c.k("wait pod/outlive --for=condition=Ready --timeout=60s")?;
    let id = |c: &Cluster| c.k("get pod outlive -o jsonpath={.status.containerStatuses[0].containerID}");
    let before = id(c)?;
    let node = c.k("get pod outlive -o jsonpath={.spec.nodeName}")?;
    let pid = task_pid(c, &node, before.trim_start_matches("containerd://"))?;
    c.kill(&format!("{node}.kubelet"))?;
    // The container ends while nobody watches: the kubelet must notice when it is back.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    c.xtask_up(&[])?;
    c.await_json("pod outlive", "{.status.containerStatuses[0].restartCount}", "1")?;
    ensure!(id(c)? != before);
    contains(&c.k("logs outlive")?, &["begun"])?;
    c.k("delete pod outlive --now")?;
    Ok(())
}

/// SIGTERM: no panic, and the next holder need not wait until the lease runs out.
pub fn daemons_stop_when_asked_and_hand_over_their_leases(c: &Cluster) -> anyhow::Result<()> {
    for daemon in ["kube-scheduler", "kube-controller-manager"] {
        let holder = "{.spec.holderIdentity}";
        let lease = format!("lease -n kube-system {daemon}");
        ensure!(!c.k(&format!("get {lease} -o jsonpath={holder}"))?.is_empty(), "{daemon} holds no lease");
        c.stop(daemon)?;
        c.await_json(&lease, holder, "")?;
        let log = c.log(daemon)?;
        ensure!(!log.contains("panicked"), "{daemon} panicked:\n{log}");
        c.xtask_up(&[])?;
    }
    Ok(())
}

/// What somebody else writes over a pod's status, a controller of nodes among them, is put right again.
pub fn a_status_written_over_is_put_right(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&client("truth"))?;
    c.k("wait pod/truth --for=condition=Ready --timeout=60s")?;
    let ip = c.k("get pod truth -o jsonpath={.status.podIP}")?;
    let lie = r#"{"status":{"phase":"Pending","podIP":"1.2.3.4","conditions":[{"type":"Ready","status":"False"}]}}"#;
    c.kubectl(&["patch", "pod", "truth", "--subresource=status", "--type=strategic", "-p", lie])?;
    let seen = r#"{.status.phase} {.status.podIP} {.status.conditions[?(@.type=="Ready")].status}"#;
    let mut args = vec!["get", "pod", "truth"];
    let path = format!("-o=jsonpath={seen}");
    args.push(&path);
    eventually(PATIENCE, || {
        let now = c.kubectl(&args)?;
        ensure!(now == format!("Running {ip} True"), "it is {now:?}");
        Ok(())
    })?;
    c.k("delete pod truth --now").map(drop)
}

/// A runtime that is gone for a moment takes no endpoint with it, nor a container.
pub fn containers_outlive_their_runtime(c: &Cluster) -> anyhow::Result<()> {
    c.apply(&web("runtime", 2))?;
    c.k("rollout status deployment/runtime --timeout=60s")?;
    let ids = "-o=jsonpath={range .items[*]}{.status.containerStatuses[*].containerID} {end}";
    let before = c.kubectl(&["get", "pods", "-l", "app=runtime", ids])?;
    for node in ["node-1", "node-2"] {
        c.kill(&format!("{node}.containerd"))?;
    }
    c.xtask_up(&[])?;
    c.k("wait node --all --for=condition=Ready --timeout=60s")?;
    c.await_json("deployment runtime", "{.status.readyReplicas}", "2")?;
    ensure!(c.kubectl(&["get", "pods", "-l", "app=runtime", ids])? == before, "containers were restarted");
    // And it works: another pod starts.
    c.k("scale deployment runtime --replicas=3")?;
    c.await_json("deployment runtime", "{.status.readyReplicas}", "3")?;
    c.k("delete deployment runtime").map(drop)
}
