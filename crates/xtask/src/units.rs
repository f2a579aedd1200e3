//! The daemons' command lines: one function per daemon.

use std::path::{Path, PathBuf};

use crate::cluster::{APISERVER_PORT, Cluster, DOMAIN, Node, REGISTRY, SERVICE_CIDR, Store};
use crate::unit::Unit;

/// Where the built binaries are.
#[derive(Clone, Debug)]
pub struct Binaries(pub PathBuf);

impl Binaries {
    fn unit(&self, name: &str) -> Unit {
        Unit::new(name, self.0.join(name))
    }

    fn node_unit(&self, node: &Node, name: &str) -> Unit {
        Unit::new(format!("{}.{name}", node.name), self.0.join(name)).in_netns(&node.netns)
    }
}

/// The store's members, on one address, ten ports apart.
pub fn stores(bin: &Binaries, cluster: &Cluster) -> Vec<Unit> {
    let members = members(cluster);
    (0..members).map(|n| store(bin, cluster, n, members)).collect()
}

fn members(cluster: &Cluster) -> u16 {
    match cluster.store {
        Store::Members(count) => u16::from(count),
        Store::Etcd => 1,
    }
}

/// What a member's clients connect to.
pub fn store_port(member: u16) -> u16 {
    2379 + 10 * member
}

fn store(bin: &Binaries, cluster: &Cluster, member: u16, members: u16) -> Unit {
    let (address, etcd) = (cluster.address(), cluster.pki().join("etcd"));
    let name = |n: u16| if n == 0 { "control-plane".to_owned() } else { format!("control-plane-{}", n + 1) };
    let unit = |program: &str| if member == 0 { program.to_owned() } else { format!("{program}-{}", member + 1) };
    let client = format!("https://{address}:{}", store_port(member));
    let peer = |n: u16| format!("https://{address}:{}", store_port(n) + 1);
    let initial: Vec<String> = (0..members).map(|n| format!("{}={}", name(n), peer(n))).collect();
    let (unit, data) = match cluster.store {
        // A system without etcd says so in the unit's log.
        Store::Etcd => (Unit::new("etcd", "/usr/bin/etcd".into()), "etcd".to_owned()),
        Store::Members(_) => (Unit::new(unit("kube-store"), bin.0.join("kube-store")), unit("store")),
    };
    unit.flag("name", name(member))
        .flag("data-dir", cluster.dir.join(data))
        .flag("listen-client-urls", &client)
        .flag("advertise-client-urls", &client)
        .flag("listen-peer-urls", peer(member))
        .flag("initial-advertise-peer-urls", peer(member))
        .flag("initial-cluster", initial.join(","))
        .flag("listen-metrics-urls", format!("http://{address}:{}", store_port(member) + 2))
        .flag("peer-cert-file", etcd.join("peer.crt"))
        .flag("peer-key-file", etcd.join("peer.key"))
        .flag("peer-trusted-ca-file", etcd.join("ca.crt"))
        .flag("peer-client-cert-auth", "true")
        .flag("cert-file", etcd.join("server.crt"))
        .flag("key-file", etcd.join("server.key"))
        .flag("trusted-ca-file", etcd.join("ca.crt"))
        .flag("client-cert-auth", "true")
}

fn store_urls(cluster: &Cluster) -> Vec<String> {
    (0..members(cluster)).map(|n| format!("https://{}:{}", cluster.address(), store_port(n))).collect()
}

pub fn apiserver(bin: &Binaries, cluster: &Cluster) -> Unit {
    let pki = cluster.pki();
    let address = cluster.address();
    bin.unit("kube-apiserver")
        .flag("bind-address", address.to_string())
        .flag("advertise-address", address.to_string())
        .flag("secure-port", APISERVER_PORT.to_string())
        .flag("etcd-servers", store_urls(cluster).join(","))
        .flag("etcd-cafile", pki.join("etcd/ca.crt"))
        .flag("etcd-certfile", pki.join("apiserver-etcd-client.crt"))
        .flag("etcd-keyfile", pki.join("apiserver-etcd-client.key"))
        .flag("client-ca-file", pki.join("ca.crt"))
        .flag("tls-cert-file", pki.join("apiserver.crt"))
        .flag("tls-private-key-file", pki.join("apiserver.key"))
        .flag("kubelet-certificate-authority", pki.join("ca.crt"))
        .flag("kubelet-client-certificate", pki.join("apiserver-kubelet-client.crt"))
        .flag("kubelet-client-key", pki.join("apiserver-kubelet-client.key"))
        .flag("service-account-issuer", format!("https://kubernetes.default.svc.{DOMAIN}"))
        .flag("service-account-key-file", pki.join("sa.pub"))
        .flag("service-account-signing-key-file", pki.join("sa.key"))
        .flag("service-cluster-ip-range", SERVICE_CIDR)
        .flag("authorization-mode", "RBAC")
}

pub fn controller_manager(bin: &Binaries, cluster: &Cluster) -> Unit {
    let pki = cluster.pki();
    bin.unit("kube-controller-manager")
        .flag("kubeconfig", cluster.dir.join("controller-manager.conf"))
        .flag("bind-address", cluster.address().to_string())
        .flag("tls-cert-file", pki.join("controller-manager.crt"))
        .flag("tls-private-key-file", pki.join("controller-manager.key"))
        .flag("root-ca-file", pki.join("ca.crt"))
        .flag("service-account-private-key-file", pki.join("sa.key"))
        .flag("client-ca-file", pki.join("ca.crt"))
        .flag("allocate-node-cidrs", "true")
        .flag("cluster-cidr", cluster.pod_cidr().to_string())
        .flag("leader-elect", "true")
}

pub fn scheduler(bin: &Binaries, cluster: &Cluster) -> Unit {
    let pki = cluster.pki();
    bin.unit("kube-scheduler")
        .flag("kubeconfig", cluster.dir.join("scheduler.conf"))
        .flag("bind-address", cluster.address().to_string())
        .flag("tls-cert-file", pki.join("scheduler.crt"))
        .flag("tls-private-key-file", pki.join("scheduler.key"))
        .flag("client-ca-file", pki.join("ca.crt"))
        .flag("leader-elect", "true")
}

pub fn dns(bin: &Binaries, cluster: &Cluster) -> Unit {
    let address = cluster.address();
    bin.unit("kube-dns")
        .flag("kubeconfig", cluster.dir.join("kube-dns.conf"))
        .flag("bind-address", format!("{address}:53"))
        .flag("metrics-bind-address", format!("{address}:9153"))
        .flag("cluster-domain", DOMAIN)
}

pub fn containerd(node: &Node) -> Unit {
    let program = which("containerd").unwrap_or_else(|| "/usr/bin/containerd".into());
    Unit::new(format!("{}.containerd", node.name), program)
        .arg("--config")
        .arg(node.dir.join("containerd/config.toml"))
        .in_netns(&node.netns)
}

pub fn kubelet(bin: &Binaries, cluster: &Cluster, node: &Node) -> Unit {
    bin.node_unit(node, "kubelet")
        .flag("kubeconfig", cluster.dir.join(format!("kubelet-{}.conf", node.name)))
        .flag("config", node.dir.join("kubelet.yaml"))
        .flag("hostname-override", &node.name)
        .flag("node-ip", node.address.to_string())
        .flag("root-dir", node.dir.join("kubelet"))
}

pub fn proxy(bin: &Binaries, cluster: &Cluster, node: &Node) -> Unit {
    bin.node_unit(node, "kube-proxy")
        .flag("kubeconfig", cluster.dir.join("kube-proxy.conf"))
        .flag("hostname-override", &node.name)
        .flag("cluster-cidr", cluster.pod_cidr().to_string())
        .flag("healthz-bind-address", format!("{}:10256", node.address))
        .flag("metrics-bind-address", format!("{}:10249", node.address))
}

pub fn podnet(bin: &Binaries, cluster: &Cluster, node: &Node) -> Unit {
    bin.node_unit(node, "kube-podnet")
        .flag("kubeconfig", cluster.dir.join("kube-podnet.conf"))
        .flag("node-name", &node.name)
        .flag("cluster-cidr", cluster.pod_cidr().to_string())
        .flag("cni-conf-dir", node.dir.join("cni/net.d"))
        .flag("cni-state-dir", node.dir.join("cni/state"))
        .flag("metrics-bind-address", format!("{}:10244", node.address))
}

/// Serves the images built by `hack/images` on the node's loopback.
pub fn registry(bin: &Binaries, cluster: &Cluster, node: &Node) -> Unit {
    Unit::new(format!("{}.registry", node.name), bin.0.join("xtask"))
        .arg("registry")
        .flag("dir", cluster.dir.join("images/oci"))
        .flag("listen", REGISTRY)
        .in_netns(&node.netns)
}

pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| Path::new(p).is_file())
}
