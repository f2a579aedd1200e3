//! Flags and the `KubeProxyConfiguration` file, merged and checked. A flag given on the command line wins over the file.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// Fields of upstream's configuration that change nothing here; named so that a file written for upstream loads.
const IGNORED: [&str; 14] = [
    "bindAddressHardFail",
    "configSyncPeriod",
    "conntrack",
    "enableProfiling",
    "featureGates",
    "ipvs",
    "logging",
    "nftables",
    "oomScoreAdj",
    "portRange",
    "showHiddenMetricsForVersion",
    "udpIdleTimeout",
    "windowsRunAsService",
    "winkernel",
];

/// Maintains the rules that make Services work on this node
#[derive(Debug, clap::Parser)]
#[command(name = "kube-proxy", version = daemon::VERSION)]
pub struct Flags {
    /// The path to the configuration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to the kubeconfig file with authorization information
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node, when it differs from the host's name
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The networks of the cluster's pods, comma-separated, at most one per IP family
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    /// The address of the health check server; empty to disable
    #[arg(long)]
    pub healthz_bind_address: Option<String>,
    /// The address of the metrics server; empty to disable
    #[arg(long)]
    pub metrics_bind_address: Option<String>,
    /// Which mode to use: iptables is the only one
    #[arg(long)]
    pub proxy_mode: Option<String>,
    /// The least time between two writes of the rules, such as 1s
    #[arg(long)]
    pub iptables_min_sync_period: Option<String>,
    /// How often to check that the rules have not been flushed by others, such as 30s
    #[arg(long)]
    pub iptables_sync_period: Option<String>,
    /// Masquerade all traffic sent to a Service's cluster IP
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub masquerade_all: Option<bool>,
    /// Let node ports be reached on 127.0.0.1
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub iptables_localhost_nodeports: Option<bool>,
    /// Networks whose addresses of this node serve node ports, or "primary"; all when empty
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Option<Vec<String>>,
    /// Remove all rules and exit
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub cleanup: bool,
    #[command(flatten)]
    pub log: daemon::LogArgs,
}

/// The file, as far as it has an effect here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    bind_address: String,
    #[serde(rename = "clientConnection")]
    client: ClientConnection,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: String,
    detect_local_mode: String,
    detect_local: DetectLocal,
    healthz_bind_address: Option<String>,
    hostname_override: String,
    iptables: Iptables,
    metrics_bind_address: Option<String>,
    mode: String,
    node_port_addresses: Option<Vec<String>>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientConnection {
    kubeconfig: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct DetectLocal {
    bridge_interface: String,
    interface_name_prefix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Iptables {
    masquerade_bit: Option<u8>,
    masquerade_all: bool,
    localhost_node_ports: Option<bool>,
    sync_period: String,
    min_sync_period: String,
}

/// How pods' traffic is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocalMode {
    ClusterCidr,
    NodeCidr,
    BridgeInterface(String),
    InterfaceNamePrefix(String),
}

#[derive(Debug, Clone)]
pub struct Config {
    pub kubeconfig: PathBuf,
    pub node_name: String,
    /// Overrides the node's primary address; unspecified means: ask the Node object.
    pub bind_address: Option<IpAddr>,
    pub cluster_cidrs: Vec<IpNet>,
    pub detect_local: DetectLocalMode,
    pub node_port_addresses: Vec<String>,
    pub healthz_address: Option<SocketAddr>,
    pub metrics_address: Option<SocketAddr>,
    pub masquerade_bit: u8,
    pub masquerade_all: bool,
    pub localhost_node_ports: bool,
    pub min_sync_period: Duration,
    pub sync_period: Duration,
}

impl Config {
    pub fn load(flags: &Flags) -> anyhow::Result<Self> {
        let file = match &flags.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        check_mode(flags.proxy_mode.as_deref().unwrap_or(&file.mode))?;
        let kubeconfig = flags.kubeconfig.clone().unwrap_or(file.client.kubeconfig);
        ensure!(!kubeconfig.as_os_str().is_empty(), "--kubeconfig or clientConnection.kubeconfig is required");
        let sync_period = |flag: &Option<String>, field: &str, name: &'static str, default| {
            duration(flag.as_deref().unwrap_or(field), default).context(name)
        };
        let address = |flag: &Option<String>, field: &Option<String>, port| {
            bind_address(flag.as_ref().or(field.as_ref()).map(String::as_str), port)
        };
        let bit = file.iptables.masquerade_bit.unwrap_or(14);
        ensure!(bit < 32, "iptables.masqueradeBit must be within [0, 31]");
        Ok(Self {
            kubeconfig,
            node_name: node_name(flags.hostname_override.as_deref().unwrap_or(&file.hostname_override))?,
            bind_address: bind_ip(&file.bind_address)?,
            cluster_cidrs: cidrs(flags.cluster_cidr.as_deref().unwrap_or(&file.cluster_cidr))?,
            detect_local: detect_local(&file.detect_local_mode, file.detect_local)?,
            node_port_addresses: node_port_addresses(&flags.nodeport_addresses, file.node_port_addresses)?,
            healthz_address: address(&flags.healthz_bind_address, &file.healthz_bind_address, "0.0.0.0:10256")
                .context("healthzBindAddress")?,
            metrics_address: address(&flags.metrics_bind_address, &file.metrics_bind_address, "127.0.0.1:10249")
                .context("metricsBindAddress")?,
            masquerade_bit: bit,
            masquerade_all: flags.masquerade_all.unwrap_or(file.iptables.masquerade_all),
            localhost_node_ports: flags
                .iptables_localhost_nodeports
                .or(file.iptables.localhost_node_ports)
                .unwrap_or(true),
            min_sync_period: sync_period(
                &flags.iptables_min_sync_period,
                &file.iptables.min_sync_period,
                "iptables.minSyncPeriod",
                Duration::from_secs(1),
            )?,
            sync_period: sync_period(
                &flags.iptables_sync_period,
                &file.iptables.sync_period,
                "iptables.syncPeriod",
                Duration::from_secs(30),
            )?,
        })
    }
}

fn read(path: &std::path::Path) -> anyhow::Result<File> {
    let file: File = daemon::config::load(path, API_VERSION, KIND)?;
    for (field, value) in &file.rest {
        if matches!(field.as_str(), "apiVersion" | "kind") {
            continue;
        }
        ensure!(IGNORED.contains(&field.as_str()), "{}: unknown field {field:?}", path.display());
        if !is_empty(value) {
            tracing::warn!(%field, "this field of the configuration has no effect");
        }
    }
    Ok(file)
}

/// As the zero values that kubeadm writes for everything it does not set.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0s",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn check_mode(mode: &str) -> anyhow::Result<()> {
    match mode {
        "" | "iptables" => Ok(()),
        other => bail!("mode: unsupported proxy mode {other:?}, must be iptables"),
    }
}

fn node_name(name: &str) -> anyhow::Result<String> {
    let name = if name.is_empty() {
        let host = nix::unistd::gethostname().context("cannot read the host's name")?;
        host.into_string().ok().context("the host's name is not UTF-8")?
    } else {
        name.to_owned()
    };
    let name = name.trim().to_lowercase();
    ensure!(!name.is_empty(), "empty node name");
    Ok(name)
}

fn bind_ip(address: &str) -> anyhow::Result<Option<IpAddr>> {
    if address.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = address.parse().with_context(|| format!("bindAddress: invalid address {address:?}"))?;
    Ok(Some(ip).filter(|ip| !ip.is_unspecified()))
}

fn cidrs(listed: &str) -> anyhow::Result<Vec<IpNet>> {
    let parse = |cidr: &str| cidr.parse::<IpNet>().with_context(|| format!("clusterCIDR: invalid network {cidr:?}"));
    let cidrs = listed.split(',').map(str::trim).filter(|cidr| !cidr.is_empty());
    let cidrs: Vec<_> = cidrs.map(parse).collect::<Result<_, _>>()?;
    let v4 = cidrs.iter().filter(|cidr| cidr.addr().is_ipv4()).count();
    ensure!(v4 <= 1 && cidrs.len() - v4 <= 1, "clusterCIDR: only one network per IP family is allowed: {listed}");
    Ok(cidrs)
}

fn detect_local(mode: &str, config: DetectLocal) -> anyhow::Result<DetectLocalMode> {
    match mode {
        "" | "ClusterCIDR" => Ok(DetectLocalMode::ClusterCidr),
        "NodeCIDR" => Ok(DetectLocalMode::NodeCidr),
        "BridgeInterface" => {
            ensure!(!config.bridge_interface.is_empty(), "detectLocal.bridgeInterface is required");
            Ok(DetectLocalMode::BridgeInterface(config.bridge_interface))
        }
        "InterfaceNamePrefix" => {
            ensure!(!config.interface_name_prefix.is_empty(), "detectLocal.interfaceNamePrefix is required");
            Ok(DetectLocalMode::InterfaceNamePrefix(config.interface_name_prefix))
        }
        other => bail!("detectLocalMode: unknown mode {other:?}"),
    }
}

fn node_port_addresses(flag: &Option<Vec<String>>, file: Option<Vec<String>>) -> anyhow::Result<Vec<String>> {
    let listed: Vec<_> =
        flag.clone().or(file).unwrap_or_default().into_iter().filter(|address| !address.is_empty()).collect();
    if listed.iter().any(|address| address == "primary") {
        ensure!(listed.len() == 1, "nodePortAddresses: \"primary\" cannot be combined with other values");
        return Ok(listed);
    }
    for address in &listed {
        address.parse::<IpNet>().with_context(|| format!("nodePortAddresses: invalid network {address:?}"))?;
    }
    Ok(listed)
}

/// `ip:port`, or an IP alone, which gets the default port; empty is off.
fn bind_address(given: Option<&str>, default: &str) -> anyhow::Result<Option<SocketAddr>> {
    let default: SocketAddr = default.parse().expect("a constant address");
    match given {
        None => Ok(Some(default)),
        Some("") => Ok(None),
        Some(text) => {
            let ip = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, default.port()));
            Ok(Some(ip.or_else(|_| text.parse()).with_context(|| format!("invalid address {text:?}"))?))
        }
    }
}

/// Go's notation, such as `1m30s`; zero and nothing mean the default.
fn duration(text: &str, default: Duration) -> anyhow::Result<Duration> {
    if text.is_empty() || text == "0" {
        return Ok(default);
    }
    let span: jiff::SignedDuration = text.parse().with_context(|| format!("invalid duration {text:?}"))?;
    let duration = Duration::try_from(span).with_context(|| format!("negative duration {text:?}"))?;
    Ok(if duration.is_zero() { default } else { duration })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn load(yaml: Option<&str>, args: &[&str]) -> anyhow::Result<Config> {
        let file = std::env::temp_dir().join(format!("kube-proxy-config-{}-{:p}", std::process::id(), args));
        let mut flags = vec!["kube-proxy".to_owned(), "--hostname-override=n".to_owned()];
        flags.extend(args.iter().map(ToString::to_string));
        if let Some(yaml) = yaml {
            let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{yaml}");
            std::fs::write(&file, text).expect("the temporary directory is writable");
            flags.push(format!("--config={}", file.display()));
        }
        let config = Config::load(&Flags::try_parse_from(flags).expect("valid flags"));
        let _ = std::fs::remove_file(&file);
        config
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let yaml = "clusterCIDR: 10.1.0.0/16\nmetricsBindAddress: ''\nclientConnection:\n  kubeconfig: /k\n\
                    iptables:\n  minSyncPeriod: 2s\n  masqueradeBit: 3\nconfigSyncPeriod: 0s\nipvs:\n  strictARP: false\n";
        let config = load(Some(yaml), &["--iptables-min-sync-period=500ms", "--healthz-bind-address=127.0.0.1"]);
        let config = config.expect("a valid configuration");
        assert_eq!(config.kubeconfig, PathBuf::from("/k"));
        assert_eq!(config.min_sync_period, Duration::from_millis(500));
        assert_eq!(config.sync_period, Duration::from_secs(30));
        assert_eq!(config.masquerade_bit, 3);
        assert_eq!(config.metrics_address, None);
        assert_eq!(config.healthz_address, "127.0.0.1:10256".parse().ok());
        assert_eq!(config.cluster_cidrs, ["10.1.0.0/16".parse::<IpNet>().expect("a network")]);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |yaml: &str, args: &[&str], words: &str| {
            let mut with_kubeconfig = vec!["--kubeconfig=/k"];
            with_kubeconfig.extend(args);
            let error = load(Some(yaml), &with_kubeconfig).expect_err(words);
            assert!(format!("{error:#}").contains(words), "{error:#}");
        };
        check("clusterCDR: 1\n", &[], "unknown field \"clusterCDR\"");
        check("iptables:\n  masqueradeBits: 1\n", &[], "masqueradeBits");
        check("iptables:\n  syncPeriod: soon\n", &[], "iptables.syncPeriod: invalid duration");
        check("", &["--proxy-mode=ipvs"], "unsupported proxy mode \"ipvs\"");
        check("", &["--cluster-cidr=10.0.0.0/8,11.0.0.0/8"], "only one network per IP family");
        check("", &["--nodeport-addresses=primary,10.0.0.0/8"], "cannot be combined");
        let error = load(None, &[]).expect_err("a kubeconfig is required");
        assert!(error.to_string().contains("kubeconfig"), "{error}");
    }
}
