//! Flags, checked before anything is started.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use hickory_proto::rr::Name;

use crate::resolv_conf;

const DNS_PORT: u16 = 53;

/// Answers for the names of Services and pods
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "kube-dns", version = daemon::VERSION)]
pub struct Flags {
    /// Path to the kubeconfig file with authorization information
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Where to answer, over UDP and TCP: addresses with an optional port, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "0.0.0.0:53")]
    pub bind_address: Vec<String>,
    /// The domain of the cluster
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The resolv.conf whose name servers answer for all other names; empty to refuse those
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: String,
    /// The address of the metrics and health server; empty to disable
    #[arg(long, default_value = "0.0.0.0:9153")]
    pub metrics_bind_address: String,
    #[command(flatten)]
    pub log: daemon::LogArgs,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub kubeconfig: PathBuf,
    pub bind_addresses: Vec<SocketAddr>,
    pub cluster_domain: Name,
    pub upstreams: Vec<SocketAddr>,
    pub metrics_address: Option<SocketAddr>,
}

impl Config {
    pub fn load(flags: Flags) -> anyhow::Result<Self> {
        let bind_addresses: Vec<_> =
            flags.bind_address.iter().map(|text| address(text)).collect::<Result<_, _>>().context("--bind-address")?;
        ensure!(!bind_addresses.is_empty(), "--bind-address: at least one is needed");
        let metrics = &flags.metrics_bind_address;
        let parsed = || metrics.parse().with_context(|| format!("--metrics-bind-address: invalid address {metrics:?}"));
        Ok(Self {
            cluster_domain: domain(&flags.cluster_domain)?,
            upstreams: upstreams(&flags.resolv_conf, &bind_addresses)?,
            metrics_address: if metrics.is_empty() { None } else { Some(parsed()?) },
            kubeconfig: flags.kubeconfig,
            bind_addresses,
        })
    }
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    bare.or_else(|_| text.parse()).with_context(|| format!("invalid address {text:?}"))
}

fn domain(text: &str) -> anyhow::Result<Name> {
    let mut name = Name::from_ascii(text).with_context(|| format!("--cluster-domain: invalid domain {text:?}"))?;
    ensure!(!name.is_root(), "--cluster-domain: must not be empty");
    name.set_fqdn(true);
    Ok(name.to_lowercase())
}

/// Our own addresses are left out: a question must not come back to us forever.
fn upstreams(resolv_conf: &str, own: &[SocketAddr]) -> anyhow::Result<Vec<SocketAddr>> {
    if resolv_conf.is_empty() {
        return Ok(Vec::new());
    }
    let text = match std::fs::read_to_string(resolv_conf) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(%error, path = resolv_conf, "no name servers for other names: they are refused");
            return Ok(Vec::new());
        }
    };
    let servers = resolv_conf::name_servers(&text).into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let ours = |server: &SocketAddr| {
        own.iter().any(|bound| bound == server || (bound.ip().is_unspecified() && server.ip().is_loopback()))
    };
    Ok(servers.filter(|server| !ours(server)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn flags_are_parsed_and_mistakes_named() {
        let load = |flag: &str| {
            let flags = ["kube-dns", "--kubeconfig=/k", "--resolv-conf=", "--metrics-bind-address=", flag];
            Config::load(Flags::try_parse_from(flags).expect("flags that parse"))
        };
        let config = load("--bind-address=10.96.0.10,127.0.0.1:1053").expect("valid");
        let expected: Vec<SocketAddr> =
            ["10.96.0.10:53", "127.0.0.1:1053"].iter().map(|a| a.parse().expect("an address")).collect();
        assert_eq!(config.bind_addresses, expected);
        let config = load("--cluster-domain=Example.Org").expect("valid");
        assert_eq!(config.cluster_domain.to_string(), "example.org.");
        let error = load("--bind-address=dns").expect_err("no address");
        assert!(format!("{error:#}").contains("invalid address \"dns\""), "{error:#}");
    }
}
