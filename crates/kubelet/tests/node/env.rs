//! containerd and the kubelet in a temporary directory, and their removal whatever happens.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pki::{Authority, Leaf, Pair};

use crate::image;

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const NODE: &str = "test-node";

/// Gives this thread, and every process started from it, a network namespace with a loopback.
pub fn enter_own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("the test runs as root");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("iproute2 is installed");
    assert!(up.success());
}

pub struct Env {
    pub dir: tempfile::TempDir,
    cgroup: String,
    containerd: Option<Child>,
    kubelet: Option<Child>,
    pub authority: Authority,
    pub port: u16,
    network: PathBuf,
}

/// Set KUBELET_TEST_LOGS to a directory to keep the daemons' logs of a failing run.
fn log(dir: &Path, name: &str) -> Stdio {
    let dir = std::env::var_os("KUBELET_TEST_LOGS").map_or(dir.to_owned(), PathBuf::from);
    let file = std::fs::OpenOptions::new().create(true).append(true).open(dir.join(name)).expect("writable");
    Stdio::from(file)
}

impl Env {
    pub async fn start(api: &str) -> Env {
        let now = Timestamp::now();
        let ca = Authority::create("test-ca", now).expect("an authority");
        let authority = Authority::load(&ca).expect("an authority");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let network = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        let cgroup = format!("/kubelet-test-{}", std::process::id());
        let mut env = Env { dir, cgroup, containerd: None, kubelet: None, authority, port: 10250, network };
        env.write_files(&ca, api, now);
        env.start_containerd().await;
        env.start_kubelet();
        env
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn client(&self, user: &str, group: Option<&str>) -> Pair {
        self.authority.issue(&Leaf::client(user, group), Timestamp::now()).expect("a certificate")
    }

    fn write_files(&self, ca: &Pair, api: &str, now: Timestamp) {
        let write = |name: &str, text: &str| {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("writable");
            std::fs::write(path, text).expect("writable");
        };
        let serving = Leaf::server(NODE, vec!["127.0.0.1".into()]);
        let serving = self.authority.issue(&serving, now).expect("a certificate");
        write("ca.crt", &ca.cert_pem);
        write("serving.crt", &serving.cert_pem);
        write("serving.key", &serving.key_pem);
        let identity = self.client("system:node:test-node", Some("system:nodes"));
        write("kubeconfig", &pki::kubeconfig::render("test", api, &ca.cert_pem, "node", &identity));
        let at = |name: &str| self.path(name).display().to_string();
        write(
            "net.d/10-test.conflist",
            &format!(
                r#"{{"cniVersion": "0.4.0", "name": "test", "plugins": [{{
            "type": "bridge", "bridge": "test0", "isGateway": true,
            "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "10.88.0.0/24"}}]]}}}}]}}"#,
                at("ipam")
            ),
        );
        write(
            "containerd.toml",
            &format!(
                r#"version = 2
root = "{}"
state = "{}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.k8s.io/pause:3.10"
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{}"
"#,
                at("root"),
                at("state"),
                at("containerd.sock"),
                at("net.d")
            ),
        );
        write(
            "kubelet.yaml",
            &format!(
                r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
failSwapOn: false
containerRuntimeEndpoint: unix://{}
podLogsDir: {}
staticPodPath: {}
cgroupRoot: {}
tlsCertFile: {}
tlsPrivateKeyFile: {}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
authentication:
  x509:
    clientCAFile: {}
"#,
                at("containerd.sock"),
                at("logs"),
                at("manifests"),
                self.cgroup,
                at("serving.crt"),
                at("serving.key"),
                at("ca.crt")
            ),
        );
        std::fs::create_dir_all(self.path("manifests")).expect("writable");
        image::write(&self.path("image.tar"));
    }

    async fn start_containerd(&mut self) {
        let child = Command::new("containerd")
            .arg("--config")
            .arg(self.path("containerd.toml"))
            .stdout(log(self.dir.path(), "containerd.log"))
            .stderr(log(self.dir.path(), "containerd.log"))
            .spawn();
        self.containerd = Some(child.expect("containerd is installed"));
        let socket = self.path("containerd.sock");
        let since = Instant::now();
        while !self.ctr(&["version"]) {
            assert!(since.elapsed() < DEADLINE, "containerd never answered at {}", socket.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let tar = self.path("image.tar").display().to_string();
        assert!(
            self.ctr(&["-n", "k8s.io", "images", "import", "--snapshotter", "native", &tar]),
            "the image is imported"
        );
    }

    fn ctr(&self, args: &[&str]) -> bool {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("containerd.sock")).args(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("ctr is installed").success()
    }

    /// Ends the process of a pod's sandbox, and nothing else of it.
    pub fn kill_sandbox(&self, pod: &str) {
        let tasks = std::fs::read_dir(self.path("state/io.containerd.runtime.v2.task/k8s.io")).expect("tasks");
        let annotated = |dir: &PathBuf| {
            let text = std::fs::read_to_string(dir.join("config.json")).unwrap_or_default();
            let spec: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let about = |key: &str| spec["annotations"][format!("io.kubernetes.cri.{key}")].clone();
            about("container-type") == "sandbox" && about("sandbox-name") == pod
        };
        let sandbox = tasks.flatten().map(|task| task.path()).find(annotated).expect("the pod has a sandbox");
        let id = sandbox.file_name().and_then(|id| id.to_str()).expect("an id");
        assert!(self.ctr(&["-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id]), "{id} is killed");
    }

    pub fn start_kubelet(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_kubelet"))
            .arg("--config")
            .arg(self.path("kubelet.yaml"))
            .arg("--kubeconfig")
            .arg(self.path("kubeconfig"))
            .arg("--root-dir")
            .arg(self.path("kubelet"))
            .args(["--hostname-override", NODE, "--node-ip", "127.0.0.1", "-v", "2"])
            .stdout(log(self.dir.path(), "kubelet.log"))
            .stderr(log(self.dir.path(), "kubelet.log"))
            .spawn();
        self.kubelet = Some(child.expect("the kubelet starts"));
    }

    /// As a crash would: no chance to tidy up.
    pub fn kill_kubelet(&mut self) {
        if let Some(mut child) = self.kubelet.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn cgroup_dirs(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
        let own = self.cgroup.trim_start_matches('/');
        controllers.chain([root.to_owned()]).map(|c| c.join(own)).filter(|dir| dir.is_dir()).collect()
    }

    /// Pods that still have a cgroup.
    pub fn pod_cgroups(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.cgroup_dirs().iter().for_each(|dir| walk(dir, &mut all));
        let names = all.iter().filter_map(|dir| dir.file_name()?.to_str().map(ToOwned::to_owned));
        names.filter(|name| name.starts_with("pod")).collect()
    }

    /// The shims: they outlive containerd, in our namespace.
    fn strays(&self) -> Vec<i32> {
        let own = std::process::id() as i32;
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| *pid != own)
            .filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns == self.network))
            .collect()
    }
}

fn walk(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), all);
            all.push(entry.path());
        }
    }
}

fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

impl Drop for Env {
    fn drop(&mut self) {
        self.kill_kubelet();
        let mut groups = Vec::new();
        for dir in self.cgroup_dirs() {
            walk(&dir, &mut groups);
            groups.push(dir);
        }
        for group in &groups {
            let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            pids.lines().filter_map(|pid| pid.parse().ok()).for_each(kill);
        }
        if let Some(mut child) = self.containerd.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let since = Instant::now();
        while !self.strays().is_empty() && since.elapsed() < Duration::from_secs(5) {
            self.strays().into_iter().for_each(kill);
            std::thread::yield_now();
        }
        for mount in kubelet::volumes::mounts_below(self.dir.path()) {
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
        let since = Instant::now();
        while groups.iter().any(|g| g.is_dir()) && since.elapsed() < Duration::from_secs(5) {
            groups.iter().for_each(|g| drop(std::fs::remove_dir(g)));
            std::thread::yield_now();
        }
    }
}
