//! Flags, with upstream's names and defaults, checked before anything starts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{ArgAction, Parser};
use controllers::node_ipam::Pool;
use daemon::LogArgs;
use ipnet::IpNet;

use crate::signer::Signer;

/// Kubernetes' controllers: they watch the state of the cluster and move it towards what was asked for
#[derive(Debug, Parser)]
#[command(name = "kube-controller-manager", version = daemon::VERSION)]
pub struct Args {
    /// Path to a kubeconfig file with authorization information
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Take part in leader election before doing work
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub leader_elect: bool,
    /// How long a leadership lasts that is not renewed
    #[arg(long, value_parser = duration, default_value = "15s")]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it gives up
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub leader_elect_renew_deadline: Duration,
    /// How long to wait between attempts to acquire or renew leadership
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub leader_elect_retry_period: Duration,
    /// Name of the Lease used for leader election
    #[arg(long, default_value = "kube-controller-manager")]
    pub leader_elect_resource_name: String,
    /// Namespace of the Lease used for leader election
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// Address on which health and metrics are served
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// HTTPS port for health and metrics; 0 serves none
    #[arg(long, default_value_t = 10257)]
    pub secure_port: u16,
    /// Certificate for HTTPS; self-signed when not given
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key matching --tls-cert-file
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Clients with a certificate signed by one of these authorities may read the metrics
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Networks for pods, one per address family, comma separated
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// Allocate a share of --cluster-cidr to every node
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub allocate_node_cidrs: bool,
    /// Mask size of a node's share of an IPv4 --cluster-cidr, when it is the only one
    #[arg(long)]
    pub node_cidr_mask_size: Option<u8>,
    /// Mask size of a node's share of an IPv4 --cluster-cidr
    #[arg(long)]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Mask size of a node's share of an IPv6 --cluster-cidr
    #[arg(long)]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// Authority published to every namespace for verifying the API server
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// RSA or ECDSA key that signs the tokens of Secrets; none are made without it
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// Controllers to run: `*` all, `foo` the one, `-foo` not the one
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// How long a running node may be silent before it counts as unhealthy
    #[arg(long, value_parser = duration, default_value = "50s")]
    pub node_monitor_grace_period: Duration,
    /// How long a starting node may be silent before it counts as unhealthy
    #[arg(long, value_parser = duration, default_value = "1m0s")]
    pub node_startup_grace_period: Duration,
    /// Terminated pods that may exist before the oldest are deleted; 0 keeps all
    #[arg(long, default_value_t = 12500)]
    pub terminated_pod_gc_threshold: i32,
    /// Collect garbage; the API server needs the same setting
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_garbage_collector: bool,
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
    #[command(flatten)]
    pub log: LogArgs,
}

/// Flags with what follows from them.
#[derive(Debug)]
pub struct Flags {
    args: Args,
    pub pools: Vec<Pool>,
    pub root_ca: Option<String>,
    pub signer: Option<Arc<Signer>>,
}

impl std::ops::Deref for Flags {
    type Target = Args;

    fn deref(&self) -> &Args {
        &self.args
    }
}

impl Flags {
    pub fn check(args: Args, known: &[(&str, &str)]) -> anyhow::Result<Self> {
        for name in args.controllers.iter().map(|name| name.trim_start_matches('-')).filter(|name| *name != "*") {
            let named = known.iter().any(|(full, alias)| name == *full || name == *alias);
            ensure!(named, "--controllers: \"{name}\" is not in the list of known controllers");
        }
        ensure!(
            args.leader_elect_lease_duration > args.leader_elect_renew_deadline,
            "--leader-elect-lease-duration must be greater than --leader-elect-renew-deadline"
        );
        let pools = if args.allocate_node_cidrs { pools(&args)? } else { Vec::new() };
        let read = |flag: &str, path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("{flag}: cannot read {}", path.display()))
        };
        let root_ca = args.root_ca_file.as_ref().map(|path| read("--root-ca-file", path)).transpose()?;
        let flag = "--service-account-private-key-file";
        let key = args.service_account_private_key_file.as_ref().map(|path| read(flag, path)).transpose()?;
        let signer = key.map(|pem| Signer::load(pem.as_bytes()).context(flag)).transpose()?.map(Arc::new);
        Ok(Self { args, pools, root_ca, signer })
    }

    /// The last mention of a controller wins over `*`.
    pub fn enables(&self, name: &str, alias: &str) -> bool {
        let mut enabled = false;
        for entry in &self.args.controllers {
            match entry.strip_prefix('-') {
                Some(off) if off == name || off == alias => return false,
                None if entry == name || entry == alias => return true,
                None if entry == "*" => enabled = true,
                _ => {}
            }
        }
        enabled
    }
}

fn pools(args: &Args) -> anyhow::Result<Vec<Pool>> {
    if args.cluster_cidr.is_empty() {
        bail!("--cluster-cidr must be set with --allocate-node-cidrs");
    }
    let pool = |cluster: &IpNet| {
        let mask = match cluster {
            IpNet::V4(_) => args.node_cidr_mask_size_ipv4.or(args.node_cidr_mask_size).unwrap_or(24),
            IpNet::V6(_) => args.node_cidr_mask_size_ipv6.or(args.node_cidr_mask_size).unwrap_or(64),
        };
        Pool::new(*cluster, mask).with_context(|| format!("--cluster-cidr {cluster}"))
    };
    args.cluster_cidr.iter().map(pool).collect()
}

/// Go's notation: `50s`, `1m30s`, `100ms`, `1.5h`.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let units = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(invalid)?;
        total += number * seconds;
        rest = &rest[unit.len()..];
    }
    if text.is_empty() {
        return Err(invalid());
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, &str)] = &[("job-controller", "job"), ("node-ipam-controller", "nodeipam")];

    fn flags(extra: &[&str]) -> anyhow::Result<Flags> {
        let args = ["kube-controller-manager", "--kubeconfig", "x"].iter().chain(extra);
        Flags::check(Args::try_parse_from(args)?, KNOWN)
    }

    fn check(list: &str, expected: bool) {
        let flags = flags(&["--controllers", list]).expect("valid");
        assert_eq!(flags.enables("job-controller", "job"), expected, "{list}");
    }

    #[test]
    fn controllers_by_name() {
        check("*", true);
        check("*,-job", false);
        check("-job-controller,*", false);
        check("nodeipam", false);
        check("job", true);
        assert!(flags(&["--controllers", "nonsense"]).is_err());
    }

    #[test]
    fn durations() {
        for (text, ms) in [("50s", 50_000), ("1m30s", 90_000), ("100ms", 100), ("1.5h", 5_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        assert!(duration("5").is_err() && duration("").is_err() && duration("x").is_err());
    }

    #[test]
    fn pools_need_a_network() {
        assert!(flags(&["--allocate-node-cidrs"]).is_err());
        assert!(
            flags(&["--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16", "--node-cidr-mask-size=8"]).is_err()
        );
        let flags = flags(&["--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16"]).expect("valid");
        assert_eq!(flags.pools[0].node_prefix, 24);
    }
}
