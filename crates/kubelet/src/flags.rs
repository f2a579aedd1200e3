//! Command-line flags. A flag given wins over the configuration file.

use std::path::PathBuf;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "kubelet", version = daemon::VERSION, about = "Runs the pods bound to this node")]
pub struct Flags {
    /// Path to a KubeletConfiguration (kubelet.config.k8s.io/v1beta1) in YAML
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to a kubeconfig; without one the kubelet runs static pods only
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The node's name, instead of the host's
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The node's addresses, comma separated: at most one per family
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<std::net::IpAddr>,
    /// Directory for volumes, pods and other state
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Labels to register the node with: key=value pairs, comma separated
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Taints to register the node with: key=value:effect, comma separated
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Sysctls that pods may set besides the safe ones, comma separated: names, or patterns that end in *
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The runtime's socket
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    #[command(flatten)]
    pub log: daemon::LogArgs,
}
