//! `hack/up`: brings a cluster up, or finds it running. Every step looks at what is there first, so a second run
//! starts only what is missing.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jiff::Timestamp;

use crate::cluster::{APISERVER_PORT, Cluster, DNS_SERVICE_ADDRESS, MAX_NODES, Node, Store};
use crate::reservation::Reservations;
use crate::steps::Steps;
use crate::unit::Unit;
use crate::units::{self, Binaries};
use crate::{bench, images, network, node_config, unit};

const DAEMON_DEADLINE: Duration = Duration::from_secs(30);
const READY_DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
/// As containerd bounds it.
const MAX_SOCKET_PATH: usize = 104;

#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    pub nodes: Option<u8>,
    pub store: Option<Store>,
    pub bench: bool,
    pub registry: bool,
    /// The repository: addon manifests are below it.
    pub root: PathBuf,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let bin = Binaries(std::env::current_exe()?.parent().context("the binary is in a directory")?.to_owned());
    // Before anything is made, and again for what links lead to.
    check_dir(&std::path::absolute(&options.dir)?)?;
    std::fs::create_dir_all(&options.dir).with_context(|| format!("cannot create {}", options.dir.display()))?;
    check_dir(&options.dir.canonicalize()?)?;
    let _lock = Cluster::lock(&options.dir)?;
    let cluster = record(options)?;
    let all = expected(&bin, &cluster, options.registry);
    if all.iter().all(|u| unit::running(&cluster, &u.name).is_some()) && !options.bench {
        eprintln!("the cluster in {} is running", cluster.dir.display());
        hints(&cluster);
        return Ok(());
    }
    let mut steps = Steps::new(12);
    let nodes: Vec<Node> = cluster.nodes().collect();
    steps.step("make the certificates", &cluster, &[], || trust(&cluster))?;
    steps.step("build the images", &cluster, &[], || {
        images::ensure(&options.root, &bin.0, &cluster.dir.join("images"))
    })?;
    steps.step("connect the nodes", &cluster, &[], || {
        network::ensure_bridge(&cluster)?;
        nodes.iter().try_for_each(|node| network::ensure_node(&cluster, node))
    })?;
    let runtimes: Vec<Unit> = nodes.iter().map(units::containerd).collect();
    let names = |units: &[Unit]| units.iter().map(|u| u.name.clone()).collect::<Vec<_>>();
    steps.step("start containerd", &cluster, &names(&runtimes), || {
        for (node, unit) in nodes.iter().zip(&runtimes) {
            node_config::write(&cluster, node, options.registry)?;
            unit.ensure(&cluster)?;
            if options.registry {
                units::registry(&bin, &cluster, node).ensure(&cluster)?;
            }
        }
        Ok(())
    })?;
    control_plane(&mut steps, &bin, &cluster)?;
    steps.step("apply roles and addons", &cluster, &["kube-apiserver".into()], || addons(options, &cluster))?;
    start_nodes(&mut steps, &bin, &cluster, &nodes, &runtimes)?;
    let waited_for: Vec<String> = all.iter().map(|u| u.name.clone()).collect();
    let kubelets: Vec<String> =
        nodes.iter().flat_map(|n| [format!("{}.kubelet", n.name), format!("{}.kube-podnet", n.name)]).collect();
    let wait = Wait { cluster: &cluster, units: &waited_for };
    steps.step("wait for the nodes to be Ready", &cluster, &kubelets, || nodes_ready(&wait, &nodes))?;
    let dns = [String::from("kube-dns"), format!("{}.kube-proxy", nodes[0].name)];
    steps.step("wait for DNS to answer", &cluster, &dns, || dns_answers(&wait))?;
    // A daemon may have died long after its own step.
    let dead: Vec<String> = all.into_iter().map(|u| u.name).filter(|u| unit::running(&cluster, u).is_none()).collect();
    steps.step("see that every daemon is alive", &cluster, &dead, || match dead.as_slice() {
        [] => Ok(()),
        dead => bail!("{} ended", dead.join(", ")),
    })?;
    eprintln!(
        "\nthe cluster is up after {:.1} s; logs are in {}",
        steps.elapsed().as_secs_f64(),
        cluster.dir.join("log").display()
    );
    under_pressure(&cluster);
    if options.bench {
        bench::run(&cluster, steps.elapsed())?;
    }
    hints(&cluster);
    Ok(())
}

/// What gives a path's character a meaning of its own.
const SPECIAL: [(char, &str); 6] = [
    (':', "overlay mounts and KUBECONFIG are lists separated by it"),
    (',', "overlay mounts and kubectl's -f are lists separated by it"),
    ('%', "containerd takes it for an escape in the paths of logs"),
    ('"', "it ends a text in containerd's configuration"),
    ('\\', "it is an escape in containerd's configuration"),
    ('\n', "it ends a line of /proc/mounts"),
];

/// What lies below the directory must be usable by everyone who is told its path. Containerd's sockets do, too, and the
/// kernel bounds the length of a socket's path.
fn check_dir(dir: &Path) -> anyhow::Result<()> {
    let text = dir.to_string_lossy();
    if let Some((character, why)) = SPECIAL.into_iter().find(|(character, _)| text.contains(*character)) {
        bail!("--dir {}: the path must not contain {character:?}: {why}", dir.display());
    }
    let longest = dir.join(format!("nodes/node-{MAX_NODES}/containerd/containerd.sock.ttrpc"));
    let over = longest.as_os_str().len().saturating_sub(MAX_SOCKET_PATH);
    if over > 0 {
        bail!("--dir {}: the path is {over} characters too long for the sockets below it", dir.display());
    }
    Ok(())
}

/// The recorded cluster, or a new one.
fn record(options: &Options) -> anyhow::Result<Cluster> {
    let dir = options.dir.canonicalize().with_context(|| format!("{}", options.dir.display()))?;
    let Some(mut cluster) = Cluster::load(&dir)? else {
        return Cluster::create(&dir, options.nodes.unwrap_or(1), options.store.unwrap_or_default());
    };
    if options.store.is_some_and(|store| store != cluster.store) {
        bail!("the cluster in {} keeps its state elsewhere: `hack/down --wipe` it to change its store", dir.display());
    }
    Reservations::default().retake(&cluster)?;
    match options.nodes {
        Some(nodes) if nodes > cluster.nodes => {
            cluster.nodes = nodes;
            cluster.save()?;
        }
        Some(nodes) if nodes < cluster.nodes => {
            bail!(
                "the cluster in {} has {} nodes: drain and `hack/down --wipe` it to have fewer",
                dir.display(),
                cluster.nodes
            )
        }
        _ => {}
    }
    Ok(cluster)
}

fn expected(bin: &Binaries, cluster: &Cluster, registry: bool) -> Vec<Unit> {
    let mut all = vec![
        units::apiserver(bin, cluster),
        units::controller_manager(bin, cluster),
        units::scheduler(bin, cluster),
        units::dns(bin, cluster),
    ];
    all.extend(units::stores(bin, cluster));
    for node in cluster.nodes() {
        all.push(units::containerd(&node));
        all.extend(node_daemons(bin, cluster, &node));
        if registry {
            all.push(units::registry(bin, cluster, &node));
        }
    }
    all
}

fn node_daemons(bin: &Binaries, cluster: &Cluster, node: &Node) -> [Unit; 3] {
    [units::kubelet(bin, cluster, node), units::proxy(bin, cluster, node), units::podnet(bin, cluster, node)]
}

fn trust(cluster: &Cluster) -> anyhow::Result<()> {
    let dirs = kubeadm::certs::Dirs { certs: cluster.pki(), kubeconfigs: cluster.dir.clone() };
    let (trust, now) = (cluster.trust(), Timestamp::now());
    kubeadm::certs::ensure_certificates(&dirs, &trust, kubeadm::certs::Renew::Due, now)?;
    kubeadm::certs::ensure_kubeconfigs(&dirs, &trust, kubeadm::certs::Renew::Due, now)?;
    Ok(())
}

fn control_plane(steps: &mut Steps, bin: &Binaries, cluster: &Cluster) -> anyhow::Result<()> {
    let stores = units::stores(bin, cluster);
    let names: Vec<String> = stores.iter().map(|u| u.name.clone()).collect();
    let apiserver = units::apiserver(bin, cluster);
    steps.step("start the store", cluster, &names, || {
        // Started together: members wait for each other, and the API server waits for its store.
        for unit in stores.iter().chain([&apiserver]) {
            unit.ensure(cluster)?;
        }
        for (unit, member) in stores.iter().zip(0..) {
            unit.wait(cluster, DAEMON_DEADLINE, || unit::listens(cluster, &unit.name, units::store_port(member)))?;
        }
        Ok(())
    })?;
    steps.step("start kube-apiserver", cluster, std::slice::from_ref(&apiserver.name), || {
        apiserver.wait(cluster, DAEMON_DEADLINE, || {
            unit::listens(cluster, &apiserver.name, APISERVER_PORT)
                && kubectl(cluster, &["get", "--raw=/readyz"]).is_ok_and(|text| text.trim() == "ok")
        })
    })?;
    let rest = [units::controller_manager(bin, cluster), units::scheduler(bin, cluster)];
    let names: Vec<String> = rest.iter().map(|u| u.name.clone()).collect();
    steps.step("start controllers and scheduler", cluster, &names, || {
        for (unit, port) in rest.iter().zip([10257, 10259]) {
            unit.ensure(cluster)?;
            unit.wait(cluster, DAEMON_DEADLINE, || unit::listens(cluster, &unit.name, port))?;
        }
        Ok(())
    })
}

fn start_nodes(
    steps: &mut Steps,
    bin: &Binaries,
    cluster: &Cluster,
    nodes: &[Node],
    runtimes: &[Unit],
) -> anyhow::Result<()> {
    let daemons = nodes.iter().flat_map(|n| node_daemons(bin, cluster, n)).map(|u| u.name);
    let names: Vec<String> = runtimes.iter().map(|u| u.name.clone()).chain(daemons).collect();
    steps.step("start the nodes", cluster, &names, || {
        for (node, runtime) in nodes.iter().zip(runtimes) {
            let socket = node.dir.join("containerd/containerd.sock");
            runtime.wait(cluster, DAEMON_DEADLINE, || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
            images::import_pause(&cluster.dir.join("images"), &socket)?;
            for daemon in node_daemons(bin, cluster, node) {
                daemon.ensure(cluster)?;
            }
        }
        units::dns(bin, cluster).ensure(cluster).map(drop)
    })
}

/// Runs the real kubectl as the cluster's administrator.
pub fn kubectl(cluster: &Cluster, args: &[&str]) -> anyhow::Result<String> {
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig().display());
    let cache = format!("--cache-dir={}", cluster.dir.join("kubectl-cache").display());
    let mut all = vec![kubeconfig.as_str(), cache.as_str()];
    all.extend(args);
    network::run("kubectl", &all)
}

/// The manifests below deploy/addons, with the addresses filled in.
fn addons(options: &Options, cluster: &Cluster) -> anyhow::Result<()> {
    let dir = options.root.join("deploy/addons");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .flatten()
        .map(|e| e.path())
        .collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let mut all = String::new();
    for file in files {
        all.push_str(&std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?);
        all.push_str("\n---\n");
    }
    let all = all.replace("${DNS_ADDRESS}", &cluster.address().to_string());
    let filled = cluster.dir.join("addons.yaml");
    std::fs::write(&filled, all).with_context(|| format!("cannot write {}", filled.display()))?;
    kubectl(cluster, &["apply", "-f", &filled.display().to_string()]).map(drop)
}

/// What is waited for comes from daemons that must run meanwhile.
struct Wait<'a> {
    cluster: &'a Cluster,
    units: &'a [String],
}

impl Wait<'_> {
    fn until(&self, what: &str, mut check: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let checked = check();
            if matches!(checked, Ok(true)) {
                return Ok(());
            }
            if let Some(unit) = self.units.iter().find(|unit| unit::running(self.cluster, unit).is_none()) {
                bail!("{unit} ended");
            }
            if started.elapsed() > READY_DEADLINE {
                let why = checked.err().map(|e| format!(": {e:#}")).unwrap_or_default();
                bail!("{what} within {} s{why}", READY_DEADLINE.as_secs())
            }
            std::thread::sleep(POLL);
        }
    }
}

fn nodes_ready(wait: &Wait<'_>, nodes: &[Node]) -> anyhow::Result<()> {
    let path = "-o=jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type==\"Ready\")].status}={.spec.podCIDR} {end}";
    let mut pods = Vec::new();
    wait.until("not every node was Ready", || {
        let text = kubectl(wait.cluster, &["get", "nodes", path])?;
        let ready = |node: &Node| {
            let prefix = format!("{}=True=", node.name);
            text.split_whitespace().find_map(|word| word.strip_prefix(&prefix).map(ToOwned::to_owned))
        };
        pods = nodes.iter().filter_map(ready).collect();
        Ok(pods.len() == nodes.len())
    })?;
    nodes.iter().zip(&pods).try_for_each(|(node, cidr)| network::route_pods(node, cidr))
}

/// A node under pressure is Ready, and yet little will be scheduled on it.
fn under_pressure(cluster: &Cluster) {
    let path =
        "-o=jsonpath={range .items[*]}{.metadata.name}: {.status.conditions[?(@.status==\"True\")].type}{\"\\n\"}{end}";
    match kubectl(cluster, &["get", "nodes", path]) {
        Ok(nodes) => pressed(&nodes).for_each(|node| {
            eprintln!("warning: {node}: hardly a pod will be scheduled there; see kubectl describe nodes");
        }),
        Err(error) => eprintln!("warning: cannot tell whether nodes are under pressure: {error:#}"),
    }
}

/// Of lines that say which conditions of a node are true, those with a pressure.
fn pressed(nodes: &str) -> impl Iterator<Item = &str> {
    nodes.lines().filter(|line| line.contains("Pressure"))
}

/// Asks the daemon itself, then the Service's address from within the first node.
fn dns_answers(wait: &Wait<'_>) -> anyhow::Result<()> {
    wait.until("DNS did not answer", || asks(SocketAddr::from((wait.cluster.address(), 53))))?;
    let node = wait.cluster.node(1);
    wait.until("DNS did not answer through its Service", || {
        let netns = std::fs::File::open(Path::new("/run/netns").join(&node.netns))?;
        std::thread::spawn(move || {
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            asks(SocketAddr::from((DNS_SERVICE_ADDRESS, 53)))
        })
        .join()
        .map_err(|_| anyhow::anyhow!("the question's thread panicked"))?
    })
}

/// One question for the API server's own Service; true when its address comes back.
fn asks(server: SocketAddr) -> anyhow::Result<bool> {
    let mut question = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["kubernetes", "default", "svc", "cluster", "local"] {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    socket.send_to(&question, server)?;
    let mut answer = [0_u8; 512];
    let (length, _) = socket.recv_from(&mut answer)?;
    let address = crate::cluster::SERVICE_ADDRESS.octets();
    Ok(answer[..length].windows(4).any(|window| window == address))
}

/// As a shell reads it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn hints(cluster: &Cluster) {
    let kubeconfig = cluster.kubeconfig();
    println!("kubeconfig: {}", kubeconfig.display());
    println!("try:");
    println!("  export KUBECONFIG={}", quoted(&kubeconfig.display().to_string()));
    println!("  kubectl get nodes -o wide");
    println!("  kubectl create deployment web --image={} --replicas=3 --port=8080", images::WEB_IMAGE);
    println!("  kubectl expose deployment web && kubectl get pods,services,endpointslices -o wide");
}

/// Used by the benchmark: how much a process holds in memory.
pub fn resident_kib(pid: i32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS")
}

/// Runs a program and shows its output.
pub fn show(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(args).status().with_context(|| format!("cannot run {program}"))?;
    if status.success() { Ok(()) } else { bail!("{program} {}: {status}", args.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_under_pressure_are_told() {
        let nodes = "node-1: Ready\nnode-2: DiskPressure Ready\n";
        assert_eq!(pressed(nodes).collect::<Vec<_>>(), ["node-2: DiskPressure Ready"]);
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        let check = |path: &str, expected: &str| assert_eq!(quoted(path), expected);
        check("/var/lib/coxswain/admin.conf", "/var/lib/coxswain/admin.conf");
        check("/tmp/a b", "'/tmp/a b'");
        check("/tmp/it's", r"'/tmp/it'\''s'");
    }

    #[test]
    fn a_directory_leaves_room_for_sockets() {
        assert!(check_dir(Path::new("/var/lib/coxswain")).is_ok());
        let long = format!("/tmp/{}", "x".repeat(80));
        assert!(check_dir(Path::new(&long)).is_err());
        for odd in ["/tmp/a:b", "/tmp/a,b", "/tmp/a%b", "/tmp/a\\b", "/tmp/a\"b"] {
            assert!(check_dir(Path::new(odd)).is_err_and(|e| e.to_string().contains("must not contain")), "{odd}");
        }
        assert!(check_dir(Path::new("/tmp/a b'#é")).is_ok());
    }
}
