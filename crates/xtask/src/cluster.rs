//! What a development cluster is and where it keeps things: the recorded choices, and every path derived from them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::reservation::Reservations;

pub const SERVICE_CIDR: &str = "10.96.0.0/12";
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub const DNS_SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub const DOMAIN: &str = "cluster.local";
pub const APISERVER_PORT: u16 = 6443;
/// Where a node's containerd finds the images served for it.
pub const REGISTRY: &str = "127.0.0.1:5000";
/// Clusters that one host can run beside each other.
const MAX_CLUSTERS: u8 = 64;
/// Worker nodes: their addresses are .11 and up in a /24.
pub const MAX_NODES: u8 = 100;

/// Chosen once, at the first `up`, and kept in `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Distinguishes the bridges, namespaces and cgroups of clusters on one host.
    pub index: u8,
    pub nodes: u8,
    /// `net.ipv4.ip_forward` as it was found.
    pub ip_forward: String,
    #[serde(skip)]
    pub dir: PathBuf,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
    /// Network namespace.
    pub netns: String,
    /// The host's end of the node's link.
    pub link: String,
    pub dir: PathBuf,
    /// Below every cgroup controller.
    pub cgroup: String,
}

impl Cluster {
    pub fn load(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join("cluster.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut cluster: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        // Mounts and processes are known by their whole path, whatever way the directory was named.
        cluster.dir = dir.canonicalize().with_context(|| format!("{}", dir.display()))?;
        Ok(Some(cluster))
    }

    /// A new cluster, with the first index that no other one on this host uses.
    pub fn create(dir: &Path, nodes: u8) -> anyhow::Result<Self> {
        let reservations = Reservations::default();
        let mut index = None;
        for candidate in 0..MAX_CLUSTERS {
            // Somebody else's link by our name is as good as a reservation.
            if !Path::new("/sys/class/net").join(bridge(candidate)).exists() && reservations.take(candidate, dir)? {
                index = Some(candidate);
                break;
            }
        }
        let Some(index) = index else { bail!("{MAX_CLUSTERS} clusters are here already") };
        let cluster = Self { index, nodes, ip_forward: original_forwarding()?, dir: dir.to_owned() };
        cluster.save()?;
        Ok(cluster)
    }

    pub fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot encode the cluster's record")?;
        kubeadm::files::write(&self.dir.join("cluster.json"), &text, kubeadm::files::PUBLIC)
    }

    /// Held while somebody brings the cluster in a directory up or down.
    pub fn lock(dir: &Path) -> anyhow::Result<fs::File> {
        let path = dir.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => bail!("another `up` or `down` is at work on {}", dir.display()),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    pub fn bridge(&self) -> String {
        bridge(self.index)
    }

    pub fn subnet(&self) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(172, 30, self.index, 0), 24)
    }

    /// The host's address on the bridge, which the control plane is bound to.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.index, 1)
    }

    /// `10.244.0.0/16`, as everywhere; another cluster on the same host has another one, so that the host can have
    /// routes to the pods of both.
    pub fn pod_cidr(&self) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(10, 244 - self.index, 0, 0), 16)
    }

    pub fn server(&self) -> String {
        format!("https://{}:{APISERVER_PORT}", self.address())
    }

    pub fn node(&self, number: u8) -> Node {
        let name = format!("node-{number}");
        Node {
            address: Ipv4Addr::new(172, 30, self.index, 10 + number),
            netns: format!("{}-{name}", self.bridge()),
            link: format!("{}n{number}", self.bridge()),
            dir: self.dir.join("nodes").join(&name),
            cgroup: format!("{}-{name}", self.bridge()),
            name,
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        (1..=self.nodes).map(|number| self.node(number))
    }

    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.conf")
    }

    pub fn log(&self, unit: &str) -> PathBuf {
        self.dir.join("log").join(format!("{unit}.log"))
    }

    pub fn pid_file(&self, unit: &str) -> PathBuf {
        self.dir.join("run").join(format!("{unit}.pid"))
    }

    pub fn trust(&self) -> pki::layout::Cluster {
        pki::layout::Cluster {
            name: "kubernetes".to_owned(),
            server: self.server(),
            advertise_address: self.address().into(),
            service_address: SERVICE_ADDRESS.into(),
            domain: DOMAIN.to_owned(),
            extra_names: Vec::new(),
            host: "control-plane".to_owned(),
            nodes: self
                .nodes()
                .map(|node| pki::layout::Node { name: node.name, address: node.address.into() })
                .collect(),
        }
    }
}

/// As another cluster on this host found it, or as it is.
fn original_forwarding() -> anyhow::Result<String> {
    let other = |index| {
        let alias = fs::read_to_string(format!("/sys/class/net/{}/ifalias", bridge(index))).ok()?;
        Cluster::load(Path::new(alias.trim())).ok().flatten()
    };
    if let Some(other) = (0..MAX_CLUSTERS).find_map(other) {
        return Ok(other.ip_forward);
    }
    let now = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").context("cannot read net.ipv4.ip_forward")?;
    Ok(now.trim().to_owned())
}

fn bridge(index: u8) -> String {
    format!("cox{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        let cluster = Cluster { index: 63, nodes: MAX_NODES, ip_forward: "0".into(), dir: "/x".into() };
        let last = cluster.nodes().last().expect("there are nodes");
        assert!(last.link.len() < 16, "{}", last.link);
        assert!(cluster.subnet().contains(&last.address));
    }
}
