//! Command-line flags, named as upstream's. What is given here wins over the configuration file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Parser;
use daemon::LogArgs;

/// The Kubernetes scheduler: finds a node for every pod that has none
#[derive(Debug, Parser)]
#[command(name = "kube-scheduler", version = daemon::VERSION)]
pub struct Flags {
    /// The path to the configuration file (KubeSchedulerConfiguration v1)
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to kubeconfig file with authorization and master location information
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Start a leader election client and gain leadership before executing the main loop
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub leader_elect: Option<bool>,
    /// The IP address on which to listen for the --secure-port port
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS with health checks and metrics; 0 serves nothing
    #[arg(long, default_value_t = 10259)]
    pub secure_port: u16,
    /// File containing the default x509 Certificate for HTTPS; without one, a self-signed certificate is made
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// File containing the default x509 private key matching --tls-cert-file
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Clients with a certificate signed by one of the authorities in this file may read /metrics
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub log: LogArgs,
}
