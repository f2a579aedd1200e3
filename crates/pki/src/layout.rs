//! Which certificates and kubeconfigs a cluster has: the plan that `kubeadm` and `hack/up` carry out. Paths and names
//! are kubeadm's; the daemons that kubeadm runs as pods have kubeconfigs of their own here.

use std::net::{IpAddr, Ipv4Addr};

use crate::authority::{Leaf, Usage};

/// What the plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    /// Where the API server is reached: `https://10.0.0.1:6443`.
    pub server: String,
    pub advertise_address: IpAddr,
    /// The first address of the service range.
    pub service_address: IpAddr,
    pub domain: String,
    /// Further names of the API server.
    pub extra_names: Vec<String>,
    /// The control plane host's name.
    pub host: String,
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub address: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ca {
    Cluster,
    Etcd,
    FrontProxy,
}

impl Ca {
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Etcd, Self::FrontProxy];

    /// Without the extension, below the PKI directory.
    pub fn path(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::Etcd => "etcd/ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }

    pub fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// A certificate in a pair of files `<path>.crt` and `<path>.key` below the PKI directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub path: String,
    pub ca: Ca,
    pub leaf: Leaf,
}

/// A kubeconfig `<file>` with an identity of the cluster's CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubeconfig {
    pub file: String,
    pub leaf: Leaf,
}

pub fn certificates(cluster: &Cluster) -> Vec<Certificate> {
    let admins = Some("kubeadm:cluster-admins");
    let mut all = vec![
        certificate("apiserver", Ca::Cluster, Leaf::server("kube-apiserver", apiserver_names(cluster))),
        certificate("apiserver-kubelet-client", Ca::Cluster, Leaf::client("kube-apiserver-kubelet-client", admins)),
        certificate("apiserver-etcd-client", Ca::Etcd, Leaf::client("kube-apiserver-etcd-client", None)),
        certificate("front-proxy-client", Ca::FrontProxy, Leaf::client("front-proxy-client", None)),
        certificate("etcd/healthcheck-client", Ca::Etcd, Leaf::client("kube-etcd-healthcheck-client", None)),
        certificate("controller-manager", Ca::Cluster, Leaf::server("kube-controller-manager", host_names(cluster))),
        certificate("scheduler", Ca::Cluster, Leaf::server("kube-scheduler", host_names(cluster))),
    ];
    for path in ["etcd/server", "etcd/peer"] {
        let leaf = Leaf { usage: Usage::Both, ..Leaf::server(&cluster.host, host_names(cluster)) };
        all.push(certificate(path, Ca::Etcd, leaf));
    }
    all.extend(cluster.nodes.iter().map(|node| {
        let user = format!("system:node:{}", node.name);
        let names = vec![node.name.clone(), node.address.to_string()];
        certificate(&format!("kubelet-{}", node.name), Ca::Cluster, Leaf::server(&user, names))
    }));
    all
}

pub fn kubeconfigs(cluster: &Cluster) -> Vec<Kubeconfig> {
    let mut all = vec![
        kubeconfig("admin.conf", "kubernetes-admin", Some("kubeadm:cluster-admins")),
        kubeconfig("super-admin.conf", "kubernetes-super-admin", Some("system:masters")),
        kubeconfig("controller-manager.conf", "system:kube-controller-manager", None),
        kubeconfig("scheduler.conf", "system:kube-scheduler", None),
        kubeconfig("kube-proxy.conf", "system:kube-proxy", None),
        kubeconfig("kube-podnet.conf", "system:kube-podnet", None),
        kubeconfig("kube-dns.conf", "system:kube-dns", None),
    ];
    all.extend(cluster.nodes.iter().map(|node| {
        let user = format!("system:node:{}", node.name);
        kubeconfig(&format!("kubelet-{}.conf", node.name), &user, Some("system:nodes"))
    }));
    all
}

fn certificate(path: &str, ca: Ca, leaf: Leaf) -> Certificate {
    Certificate { path: path.to_owned(), ca, leaf }
}

fn kubeconfig(file: &str, user: &str, group: Option<&str>) -> Kubeconfig {
    Kubeconfig { file: file.to_owned(), leaf: Leaf::client(user, group) }
}

fn apiserver_names(cluster: &Cluster) -> Vec<String> {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(String::from).into();
    names.push(format!("kubernetes.default.svc.{}", cluster.domain));
    names.push(cluster.service_address.to_string());
    for name in host_names(cluster).into_iter().chain(cluster.extra_names.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn host_names(cluster: &Cluster) -> Vec<String> {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    vec![cluster.host.clone(), "localhost".into(), cluster.advertise_address.to_string(), loopback.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_known_by_every_name_it_is_called() {
        let cluster = Cluster {
            name: "kubernetes".into(),
            server: "https://10.0.0.1:6443".into(),
            advertise_address: [10, 0, 0, 1].into(),
            service_address: [10, 96, 0, 1].into(),
            domain: "cluster.local".into(),
            extra_names: vec!["localhost".into(), "example.org".into()],
            host: "cp".into(),
            nodes: vec![Node { name: "a".into(), address: [10, 0, 0, 2].into() }],
        };
        let all = certificates(&cluster);
        let apiserver = all.iter().find(|c| c.path == "apiserver").expect("planned");
        assert_eq!(
            apiserver.leaf.names.join(" "),
            "kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local 10.96.0.1 cp \
             localhost 10.0.0.1 127.0.0.1 example.org"
        );
        assert!(all.iter().any(|c| c.path == "kubelet-a"));
        assert!(kubeconfigs(&cluster).iter().any(|k| k.file == "kubelet-a.conf"));
    }
}
