//! Flags, with upstream's names, and the configuration they make. Everything is checked, and every file read once,
//! before a port is bound.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use ipnet::IpNet;

use crate::store;

#[derive(Clone, Debug, Parser)]
#[command(name = "kube-apiserver", version = daemon::VERSION, about = "The Kubernetes API server")]
pub struct Flags {
    #[command(flatten)]
    pub log: daemon::LogArgs,
    /// etcd servers (scheme://ip:port), comma separated
    #[arg(long, required = true, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// CA that signed the etcd servers' certificates
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd
    #[arg(long, requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long, requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// The prefix of all keys in etcd
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// How often the store is compacted; 0 leaves it to etcd
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub etcd_compaction_interval: Duration,
    /// CA of client certificates: common name is the user, organizations are its groups
    #[arg(long)]
    pub client_ca_file: PathBuf,
    #[arg(long)]
    pub tls_cert_file: PathBuf,
    #[arg(long)]
    pub tls_private_key_file: PathBuf,
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Where the cluster reaches this server; the bind address when that is a real one
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Client certificate for kubelets
    #[arg(long)]
    pub kubelet_client_certificate: PathBuf,
    #[arg(long)]
    pub kubelet_client_key: PathBuf,
    /// CA that signed the kubelets' serving certificates; the client CA when not given
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Issuer of service account tokens; may be repeated, the first one signs
    #[arg(long, required = true)]
    pub service_account_issuer: Vec<String>,
    /// Public keys that verify service account tokens
    #[arg(long, required = true)]
    pub service_account_key_file: Vec<PathBuf>,
    /// Private key that signs service account tokens
    #[arg(long)]
    pub service_account_signing_key_file: PathBuf,
    /// Audiences of the API; the issuer when not given
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    #[arg(long, default_value = "10.96.0.0/12")]
    pub service_cluster_ip_range: IpNet,
    /// Ports for NodePort services, both ends included
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: (u16, u16),
    /// Only RBAC
    #[arg(long, default_value = "RBAC", value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    /// How long Events are kept
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub event_ttl: Duration,
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long a request may take, watches and streams excepted
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub request_timeout: Duration,
    /// How long the server waits for requests in progress when it stops
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub shutdown_grace_period: Duration,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub store: store::Config,
    pub compaction_interval: Duration,
    pub client_ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub bind: SocketAddr,
    pub advertise: IpAddr,
    pub kubelet_cert: PathBuf,
    pub kubelet_key: PathBuf,
    pub kubelet_ca: PathBuf,
    pub issuer: String,
    pub audiences: Vec<String>,
    /// (file name, PEM)
    pub public_keys: Vec<(String, Vec<u8>)>,
    pub signing_key: (String, Vec<u8>),
    pub service_range: IpNet,
    pub node_ports: (u16, u16),
    pub event_ttl: Duration,
    pub max_reads: usize,
    pub max_writes: usize,
    pub request_timeout: Duration,
    pub grace_period: Duration,
}

impl Flags {
    pub fn validate(self) -> anyhow::Result<Config> {
        for mode in &self.authorization_mode {
            ensure!(
                mode == "RBAC",
                "--authorization-mode={mode} is not supported: requests are always authorized by RBAC"
            );
        }
        let store = self.store()?;
        let advertise = match self.advertise_address {
            Some(address) if !address.is_unspecified() => address,
            _ if !self.bind_address.is_unspecified() => self.bind_address,
            _ => bail!("--advertise-address must be given when --bind-address is {}", self.bind_address),
        };
        let bits = self.service_cluster_ip_range.max_prefix_len() - self.service_cluster_ip_range.prefix_len();
        ensure!((2..=20).contains(&bits), "--service-cluster-ip-range must hold between 4 and 2^20 addresses");
        ensure!(self.max_requests_inflight > 0, "--max-requests-inflight must be positive");
        ensure!(self.max_mutating_requests_inflight > 0, "--max-mutating-requests-inflight must be positive");
        ensure!(self.request_timeout > Duration::ZERO, "--request-timeout must be positive");
        for file in
            [&self.client_ca_file, &self.tls_cert_file, &self.tls_private_key_file, &self.kubelet_client_certificate]
        {
            read(file)?;
        }
        let issuer = self.service_account_issuer[0].clone();
        let audiences =
            if self.api_audiences.is_empty() { self.service_account_issuer.clone() } else { self.api_audiences };
        let named = |file: &PathBuf| Ok((file.display().to_string(), read(file)?));
        Ok(Config {
            store,
            compaction_interval: self.etcd_compaction_interval,
            kubelet_ca: self.kubelet_certificate_authority.unwrap_or_else(|| self.client_ca_file.clone()),
            client_ca: self.client_ca_file,
            cert: self.tls_cert_file,
            key: self.tls_private_key_file,
            bind: SocketAddr::new(self.bind_address, self.secure_port),
            advertise,
            kubelet_cert: self.kubelet_client_certificate,
            kubelet_key: self.kubelet_client_key,
            issuer,
            audiences,
            public_keys: self.service_account_key_file.iter().map(named).collect::<anyhow::Result<_>>()?,
            signing_key: named(&self.service_account_signing_key_file)?,
            service_range: self.service_cluster_ip_range.trunc(),
            node_ports: self.service_node_port_range,
            event_ttl: self.event_ttl,
            max_reads: self.max_requests_inflight,
            max_writes: self.max_mutating_requests_inflight,
            request_timeout: self.request_timeout,
            grace_period: self.shutdown_grace_period,
        })
    }

    fn store(&self) -> anyhow::Result<store::Config> {
        let secure = self.etcd_servers.iter().any(|s| s.starts_with("https://"));
        for server in &self.etcd_servers {
            ensure!(
                server.starts_with("https://") || server.starts_with("http://"),
                "--etcd-servers: {server:?} has neither http:// nor https://"
            );
            ensure!(secure == server.starts_with("https://"), "--etcd-servers mixes http:// and https://");
        }
        ensure!(!secure || self.etcd_cafile.is_some(), "--etcd-cafile is required for https:// etcd servers");
        let ca = self.etcd_cafile.as_deref().filter(|_| secure).map(read).transpose()?;
        let identity = match (&self.etcd_certfile, &self.etcd_keyfile) {
            (Some(cert), Some(key)) if secure => Some((read(cert)?, read(key)?)),
            _ => None,
        };
        ensure!(!self.etcd_prefix.trim_matches('/').is_empty(), "--etcd-prefix must not be empty");
        Ok(store::Config { servers: self.etcd_servers.clone(), prefix: self.etcd_prefix.clone(), ca, identity })
    }
}

fn read(file: impl AsRef<Path>) -> anyhow::Result<Vec<u8>> {
    let file = file.as_ref();
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Go's durations, as far as flags use them: `1h30m`, `90s`, `500ms`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let invalid = || format!("invalid duration {text:?}");
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u32 = rest[..digits].parse().map_err(|_| invalid())?;
        let (unit, length) = match &rest[digits..] {
            r if r.starts_with("ms") => (Duration::from_millis(1), 2),
            r if r.starts_with('h') => (Duration::from_secs(3600), 1),
            r if r.starts_with('m') => (Duration::from_secs(60), 1),
            r if r.starts_with('s') => (Duration::from_secs(1), 1),
            _ => return Err(invalid()),
        };
        total += unit * number;
        rest = &rest[digits + length..];
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let invalid = || format!("invalid port range {text:?}: want FROM-TO");
    let (from, to) = text.split_once('-').ok_or_else(invalid)?;
    let (from, to) = (from.parse().map_err(|_| invalid())?, to.parse().map_err(|_| invalid())?);
    if from == 0 || from > to { Err(invalid()) } else { Ok((from, to)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("0", Some(0));
        check("1h30m", Some(5_400_000));
        check("500ms", Some(500));
        check("5", None);
        check("", None);
        check("5x", None);
    }

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        let check = |extra: &[&str], expected: &str| {
            let base = [
                "kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                "--client-ca-file=/dev/null",
                "--tls-cert-file=/dev/null",
                "--tls-private-key-file=/dev/null",
                "--kubelet-client-certificate=/dev/null",
                "--kubelet-client-key=/dev/null",
                "--service-account-issuer=x",
                "--service-account-key-file=/dev/null",
                "--service-account-signing-key-file=/dev/null",
            ];
            let flags = Flags::try_parse_from(base.iter().chain(extra)).map_err(|e| e.to_string());
            let message = flags.and_then(|f| f.validate().map(drop).map_err(|e| e.to_string()));
            let got = message.err().unwrap_or_default();
            assert!(got.contains(expected), "{extra:?}: {got}");
        };
        check(&["--authorization-mode=AlwaysAllow", "--advertise-address=10.0.0.1"], "AlwaysAllow is not supported");
        check(&[], "--advertise-address must be given");
        check(&["--advertise-address=10.0.0.1", "--service-cluster-ip-range=10.0.0.0/8"], "between 4 and 2^20");
        check(&["--service-node-port-range=5"], "invalid port range");
        check(&["--anonymous-auth=false"], "unexpected argument");
        check(&["--advertise-address=10.0.0.1", "--etcd-prefix=/"], "--etcd-prefix");
    }
}
