//! A real containerd, started here with a directory of its own, pulls from the registry through a mirror entry.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::oci::{Entry, Image, Store};
use xtask::registry::Registry;

const IMAGE: &str = "docker.io/library/busybox:1.36";
const DEADLINE: Duration = Duration::from_secs(20);

/// Killed when dropped, also when the test fails.
struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Containerd {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("containerd.sock");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            dir.join("root"),
            dir.join("state"),
        );
        let file = dir.join("containerd.toml");
        std::fs::write(&file, config).expect("temp dir is writable");
        let log = std::fs::File::create(dir.join("containerd.log")).expect("temp dir is writable");
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd is installed (package containerd)");
        let this = Containerd { child, socket };
        let started = Instant::now();
        while UnixStream::connect(&this.socket).is_err() || !this.ctr(&["version"]).status.success() {
            assert!(started.elapsed() < DEADLINE, "{}", read(&dir.join("containerd.log")));
            std::thread::yield_now();
        }
        this
    }

    fn ctr(&self, args: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io"]).args(args);
        command.output().expect("ctr comes with containerd")
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// An image with a file in it; returns its manifest's digest.
fn build(oci: &Path) -> String {
    let entries = vec![
        Entry::Dir { path: "etc".into(), mode: 0o755 },
        Entry::File { path: "etc/motd".into(), mode: 0o644, data: b"hello\n".to_vec() },
        Entry::Link { path: "motd".into(), target: "etc/motd".into() },
    ];
    let image = Image {
        repository: "library/busybox".into(),
        tag: "1.36".into(),
        name: IMAGE.into(),
        layers: vec![entries],
        entrypoint: vec![],
        cmd: vec!["sh".into()],
        env: vec![],
    };
    let mut store = Store::create(oci).expect("temp dir is writable");
    store.add(&image).expect("added");
    store.finish().expect("finished");
    let tags: serde_json::Value = serde_json::from_str(&read(&oci.join("tags.json"))).expect("JSON");
    tags["library/busybox:1.36"].as_str().expect("the tag is there").to_owned()
}

fn serve(oci: &Path) -> SocketAddr {
    let registry = Registry::open(oci).expect("built above");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.set_nonblocking(true).expect("a fresh socket");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("non-blocking");
            registry.serve(listener).await
        })
    });
    address
}

/// containerd's mirror entry for docker.io.
fn mirror(hosts: &Path, registry: SocketAddr) {
    let dir = hosts.join("docker.io");
    std::fs::create_dir_all(&dir).expect("temp dir is writable");
    let text = format!(
        "server = \"http://{registry}\"\n[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
    );
    std::fs::write(dir.join("hosts.toml"), text).expect("temp dir is writable");
}

#[test]
fn containerd_pulls_through_a_mirror_entry() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: containerd needs root");
        return;
    }
    let dir = TempDir::new().expect("a temp dir");
    let digest = build(&dir.path().join("oci"));
    let hosts = dir.path().join("hosts");
    mirror(&hosts, serve(&dir.path().join("oci")));
    let containerd = Containerd::start(dir.path());
    let hosts = hosts.display().to_string();
    let pull =
        |image: &str| containerd.ctr(&["images", "pull", "--snapshotter", "native", "--hosts-dir", &hosts, image]);

    let pulled = pull(IMAGE);
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    let listed = String::from_utf8_lossy(&containerd.ctr(&["images", "list"]).stdout).into_owned();
    assert!(listed.contains(IMAGE) && listed.contains(&digest), "{listed}");
    let by_digest = pull(&format!("docker.io/library/busybox@{digest}"));
    assert!(by_digest.status.success(), "{}", String::from_utf8_lossy(&by_digest.stderr));

    let missing = pull("docker.io/library/busybox:none");
    let words = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && words.contains("not found"), "{words}");

    // The archive beside the blobs is the same image, without a registry.
    let archive = dir.path().join("busybox-1.36.tar").display().to_string();
    assert!(containerd.ctr(&["images", "remove", "--sync", IMAGE]).status.success());
    let imported = containerd.ctr(&["images", "import", "--snapshotter", "native", &archive]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let listed = String::from_utf8_lossy(&containerd.ctr(&["images", "list"]).stdout).into_owned();
    assert!(listed.contains(IMAGE) && listed.contains(&digest), "{listed}");
}
