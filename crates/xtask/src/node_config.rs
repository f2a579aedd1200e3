//! The configuration files of a node: its containerd's and its kubelet's. Everything is below the node's directory, so
//! that many nodes live on one host and removing the directory removes the node.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::cluster::{Cluster, DNS_SERVICE_ADDRESS, DOMAIN, Node, REGISTRY};

/// Debian's place for the plugins, then the one upstream's archives are unpacked to.
const CNI_BIN_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// Named by containerd's and every kubelet's own default; ours is imported under this name.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10";

/// The disk is the host's, which many share and nobody gave to the node: how full it is says nothing of the node.
const EVICTION: &str = "evictionHard:
  memory.available: 100Mi
  nodefs.available: 0%
  nodefs.inodesFree: 0%
  imagefs.available: 0%
  imagefs.inodesFree: 0%
";

pub fn write(cluster: &Cluster, node: &Node, registry: bool) -> anyhow::Result<()> {
    for below in ["containerd", "certs.d/_default", "cni/net.d", "cni/state", "kubelet", "manifests", "pod-logs"] {
        let dir = node.dir.join(below);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let hosts = node.dir.join("certs.d/_default/hosts.toml");
    if registry {
        file(&hosts, &format!("[host.\"http://{REGISTRY}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"))?;
    } else {
        let _ = fs::remove_file(&hosts);
    }
    file(&node.dir.join("containerd/config.toml"), &containerd(node, cni_bin_dir()))?;
    file(&node.dir.join("kubelet.yaml"), &kubelet(cluster, node))
}

fn file(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn cni_bin_dir() -> &'static str {
    CNI_BIN_DIRS.into_iter().find(|dir| Path::new(dir).join("bridge").exists()).unwrap_or(CNI_BIN_DIRS[0])
}

fn containerd(node: &Node, cni_bin_dir: &str) -> String {
    let dir = node.dir.display();
    format!(
        r#"version = 2
root = "{dir}/containerd/root"
state = "{dir}/containerd/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{dir}/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
  # Where the host may not lower OOM scores (in a container itself), sandboxes would fail to start.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin_dir}"
    conf_dir = "{dir}/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{dir}/certs.d"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{dir}/containerd/runc"
"#
    )
}

fn kubelet(cluster: &Cluster, node: &Node) -> String {
    let (dir, pki) = (node.dir.display(), cluster.pki());
    let pki = pki.display();
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
port: 10250
healthzBindAddress: {address}
healthzPort: 10248
authentication:
  x509:
    clientCAFile: {pki}/ca.crt
  webhook:
    enabled: true
  anonymous:
    enabled: false
authorization:
  mode: Webhook
tlsCertFile: {pki}/kubelet-{name}.crt
tlsPrivateKeyFile: {pki}/kubelet-{name}.key
clusterDNS:
- {DNS_SERVICE_ADDRESS}
clusterDomain: {DOMAIN}
containerRuntimeEndpoint: unix://{dir}/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
podLogsDir: {dir}/pod-logs
staticPodPath: {dir}/manifests
failSwapOn: false
{EVICTION}",
        address = node.address,
        name = node.name,
        cgroup = node.cgroup,
    )
}
