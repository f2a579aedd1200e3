//! Flags and configuration file, under etcd's names, checked before anything is opened.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use daemon::LogArgs;
use daemon::telemetry::Output;
use daemon::tls_policy::Policy;
use raftlog::Wal;
use serde::Deserialize;
use url::Url;

use crate::server::Tuning;
use crate::token;

mod cluster;
mod environment;
mod file;
mod foreign;
mod tls;

pub use environment::{unrecognized, with_environment};
pub use foreign::check_environment;
use tls::FileTls;
pub use tls::Tls;

/// The etcd release whose API is answered; clients decide by it what they may use.
pub const ETCD_VERSION: &str = "3.6.6";
/// That of the whole cluster: members of one minor version understand each other.
pub const CLUSTER_VERSION: &str = "3.6.0";
/// Beyond the request itself, what a gRPC message may add.
pub const GRPC_OVERHEAD_BYTES: usize = 512 << 10;
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
const DEFAULT_SNAPSHOT_COUNT: u64 = 10_000;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
const DEFAULT_CATCHUP_ENTRIES: u64 = 5_000;
const CORRUPT_CHECK: &str = "InitialCorruptCheck";
const LOG_LEVELS: [&str; 6] = ["debug", "info", "warn", "error", "panic", "fatal"];
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
/// The most that `--max-request-bytes` may be.
pub const MAX_REQUEST_BYTES: usize = 64 << 20;

/// An embedded Raft key-value store that speaks etcd v3
#[derive(Debug, Clone, Parser)]
#[command(name = "kube-store", version = daemon::VERSION, args_override_self = true)]
pub struct Flags {
    /// Configuration file in YAML with etcd's keys; as with etcd, other settings' flags are ignored beside it
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a data directory from a snapshot; the member it founds takes its name and URLs
    /// from the flags before `restore`
    Restore {
        /// A file written by `etcdctl snapshot save`
        snapshot: PathBuf,
    },
}

/// What flags and file can set. In the file the keys are the flags' names, and the TLS files
/// stand under `client-transport-security`, as in etcd's.
#[derive(Debug, Clone, Parser, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Human-readable name for this member
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Path to the data directory (default `<name>.etcd`)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Path to the log's directory, on a disk of its own perhaps (default `<data-dir>/member/wal`)
    #[arg(long, value_name = "DIR")]
    pub wal_dir: Option<PathBuf>,
    /// URLs to listen on for client requests
    #[arg(long, default_value = DEFAULT_CLIENT_URL)]
    pub listen_client_urls: String,
    /// This member's client URLs to tell to clients; must be set where those to listen on are
    #[arg(long)]
    pub advertise_client_urls: Option<String>,
    /// URLs to serve /metrics and /health on
    #[arg(long, default_value = "")]
    pub listen_metrics_urls: String,
    /// This member's peer URLs to tell to the cluster
    #[arg(long, default_value = DEFAULT_PEER_URL)]
    pub initial_advertise_peer_urls: String,
    /// URLs to listen on for the other members
    #[arg(long, default_value = DEFAULT_PEER_URL)]
    pub listen_peer_urls: String,
    /// Names and peer URLs of the members: name=url,name=url (default: this member alone)
    #[arg(long, default_value = "")]
    pub initial_cluster: String,
    /// Whether the cluster is founded now, or there and joined: new or existing
    #[arg(long, default_value = "new")]
    pub initial_cluster_state: String,
    /// Go on alone with the data there is: all other members, lost for good, are removed; not while any of them runs
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub force_new_cluster: bool,
    /// Time between two heartbeats, in milliseconds
    #[arg(long, default_value_t = 100)]
    pub heartbeat_interval: u64,
    /// Time without a heartbeat before an election, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub election_timeout: u64,
    /// Ask the others whether an election would be won before one begins; it cannot be turned off
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub pre_vote: bool,
    /// Refuse changes of members that would leave no quorum
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub strict_reconfig_check: bool,
    /// Path to the certificate shown to the other members, as their server and as their client
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub peer_cert_file: Option<PathBuf>,
    /// Path to that certificate's key
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub peer_key_file: Option<PathBuf>,
    /// Path to the CA that signs the members' certificates
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// Require a certificate of the other members
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    #[serde(skip)]
    pub peer_client_cert_auth: bool,
    /// Path to certificates that are no member's any more: revoked by their CA
    #[arg(long, value_name = "FILE")]
    pub peer_crl_file: Option<PathBuf>,
    #[arg(skip)]
    peer_transport_security: Option<FileTls>,
    /// Token that keeps clusters with the same URLs apart
    #[arg(long, default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Path to the server's TLS certificate
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub cert_file: Option<PathBuf>,
    /// Path to the server's TLS key
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub key_file: Option<PathBuf>,
    /// Path to the CA that signs client certificates
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub trusted_ca_file: Option<PathBuf>,
    /// Require a client certificate signed by the trusted CA
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    #[serde(skip)]
    pub client_cert_auth: bool,
    /// Path to client certificates that the trusted CA has revoked
    #[arg(long, value_name = "FILE")]
    pub client_crl_file: Option<PathBuf>,
    #[arg(skip)]
    client_transport_security: Option<FileTls>,
    /// The lowest TLS version that clients and members may speak: TLS1.2 or TLS1.3
    #[arg(long, default_value = "TLS1.2")]
    pub tls_min_version: String,
    /// The highest (default: no bound)
    #[arg(long, default_value = "")]
    pub tls_max_version: String,
    /// Suites of TLS 1.2, by Go's names and separated by commas (default: all that are supported)
    #[arg(long, default_value = "")]
    #[serde(deserialize_with = "file::list")]
    pub cipher_suites: String,
    /// The common name without which a certificate is not a member's
    #[arg(long, value_name = "NAME")]
    #[serde(skip)]
    pub peer_cert_allowed_cn: Option<String>,
    /// How many requests and watches a client may have under way on a connection
    #[arg(long, default_value_t = 100_000)]
    pub max_concurrent_streams: u32,
    /// Time without traffic after which the server asks a client whether it is there; 0 disables
    #[arg(long, default_value = "30s")]
    #[serde(deserialize_with = "file::duration")]
    pub grpc_keepalive_interval: String,
    /// Time after which a client that does not answer is gone
    #[arg(long, default_value = "20s")]
    #[serde(deserialize_with = "file::duration")]
    pub grpc_keepalive_timeout: String,
    /// How to read --auto-compaction-retention: periodic or revision
    #[arg(long, default_value = "periodic")]
    pub auto_compaction_mode: String,
    /// History to keep: a duration or hours (periodic) or a number of revisions; 0 disables
    #[arg(long, default_value = "0")]
    pub auto_compaction_retention: String,
    /// Raise an alarm when the data exceeds this size; 0 is the default of 2 GiB, less than that no limit
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub quota_backend_bytes: i64,
    /// Maximum number of operations permitted in a transaction
    #[arg(long, default_value_t = 128)]
    pub max_txn_ops: usize,
    /// Maximum client request size in bytes the server will accept
    #[arg(long, default_value_t = 3 << 19)]
    pub max_request_bytes: usize,
    /// Number of committed entries between two checkpoints; eight times as many changed records count as much
    #[arg(long, default_value_t = DEFAULT_SNAPSHOT_COUNT)]
    pub snapshot_count: u64,
    /// Applied entries that are kept for members that lag; for one that was heard of lately a hundred times as many
    #[arg(long, alias = "experimental-snapshot-catchup-entries", default_value_t = DEFAULT_CATCHUP_ENTRIES)]
    #[serde(alias = "experimental-snapshot-catchup-entries")]
    pub snapshot_catchup_entries: u64,
    /// Interval of periodic watch progress notifications
    #[arg(long, alias = "experimental-watch-progress-notify-interval", default_value = "10m")]
    #[serde(alias = "experimental-watch-progress-notify-interval", deserialize_with = "file::duration")]
    pub watch_progress_notify_interval: String,
    /// Tokens to give out: simple, or jwt with its options:
    /// `jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256,ttl=10m`
    #[arg(long, default_value = "simple")]
    pub auth_token: String,
    /// Seconds after which a simple token that is not used is void
    #[arg(long, default_value_t = 300)]
    pub auth_token_ttl: u64,
    /// Compare data with the other members before serving
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub experimental_initial_corrupt_check: bool,
    /// Features by name: InitialCorruptCheck=true does what --experimental-initial-corrupt-check does
    #[arg(long, default_value = "")]
    pub feature_gates: String,
    /// Cost of hashing passwords with bcrypt, between 4 and 31
    #[arg(long, default_value_t = 10)]
    pub bcrypt_cost: u32,
    /// How much is logged: debug, info, warn, error, panic or fatal; --v counts more
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// Log as much as `--log-level=debug` does
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub debug: bool,
    /// Where the log goes: stdout, stderr, or default, which is stderr
    #[arg(long, default_value = "default")]
    #[serde(deserialize_with = "file::list")]
    pub log_outputs: String,
    /// zap or capnslog, as etcd's; the log's form is this store's own with either
    #[arg(long, default_value = "zap")]
    pub logger: String,
    /// Snapshot files to keep; only the newest is of use here, and kept
    #[arg(long, default_value_t = 5)]
    pub max_snapshots: u32,
    /// Files of the log to keep; those of no use any more are written over or removed
    #[arg(long, default_value_t = 5)]
    pub max_wals: u32,
    /// Whether etcd's old API is served, which it cannot be here
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_v2: bool,
    /// Whether Go's profiles are served, which there are none of here
    #[arg(long, action = clap::ArgAction::Set, value_parser = boolean, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_pprof: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::parse_from(["kube-store"])
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    Off,
    Periodic(Duration),
    Revisions(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub tls: bool,
}

/// Everything checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    /// Where the log lies.
    pub wal_dir: PathBuf,
    pub clients: Vec<Endpoint>,
    pub peers: Vec<Endpoint>,
    pub peer_tls: Option<Tls>,
    /// Names and peer URLs of all members, this one among them; of one who is a member already perhaps none.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// The cluster is there, and this member joins it.
    pub joins: bool,
    /// Those who were members beside this one are none any more.
    pub force_new_cluster: bool,
    pub tick: Duration,
    pub election_ticks: usize,
    pub strict_reconfig_check: bool,
    pub metrics: Vec<Endpoint>,
    pub advertise_client_urls: Vec<String>,
    pub advertise_peer_urls: Vec<String>,
    pub cluster_token: String,
    pub tls: Option<Tls>,
    pub tls_policy: Policy,
    /// Members' certificates have this common name.
    pub peer_name: Option<String>,
    pub tuning: Tuning,
    pub compaction: Compaction,
    pub quota_bytes: u64,
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub snapshot_count: u64,
    pub catchup_entries: u64,
    pub progress_interval: Duration,
    pub tokens: token::Config,
    pub bcrypt_cost: u32,
    pub initial_corrupt_check: bool,
    pub log_level: String,
    pub log_output: Output,
}

impl Flags {
    pub fn validate(self) -> Result<Config> {
        match &self.config_file {
            None => self.settings.validate(),
            Some(path) => {
                let name = || format!("cannot use --config-file {}", path.display());
                file::read(path).and_then(Settings::validate).with_context(name)
            }
        }
    }
}

impl Settings {
    fn validate(self) -> Result<Config> {
        ensure!(!self.name.is_empty(), "--name must not be empty");
        let tls = tls::of_clients(&self)?;
        let peer_tls = tls::of_peers(&self)?;
        let peers = endpoints("listen-peer-urls", &self.listen_peer_urls, peer_tls.is_some(), "peer-")?;
        let (tick, election_ticks) = self.ticks()?;
        let advertise_peer_urls = urls("initial-advertise-peer-urls", &self.initial_advertise_peer_urls)?;
        let data_dir = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.etcd", self.name)));
        let wal_dir = self.wal_dir.clone().unwrap_or_else(|| data_dir.join("member/wal"));
        let initial_cluster = match cluster::initial(&self.name, &self.initial_cluster, &advertise_peer_urls) {
            // Of no account to one who is a member already.
            Err(_) if Wal::exists(&wal_dir)? => Vec::new(),
            members => members?,
        };
        let joins = match self.initial_cluster_state.as_str() {
            "new" => false,
            "existing" => true,
            other => bail!("--initial-cluster-state={other} is neither new nor existing"),
        };
        let clients = endpoints("listen-client-urls", &self.listen_client_urls, tls.is_some(), "")?;
        ensure!(!clients.is_empty(), "--listen-client-urls names no URL");
        // Told of an address at which nobody listens, clients would look for this member there.
        let known = self.advertise_client_urls.is_some() || self.listen_client_urls == DEFAULT_CLIENT_URL;
        ensure!(known, "--advertise-client-urls is required when --listen-client-urls is set explicitly");
        let advertised = self.advertise_client_urls.as_deref().unwrap_or(DEFAULT_CLIENT_URL);
        self.check_foreign()?;
        ensure!(self.pre_vote, "--pre-vote=false: a member always asks before it calls an election");
        ensure!(self.max_txn_ops > 0, "--max-txn-ops must be at least 1");
        let right = (1..=MAX_REQUEST_BYTES).contains(&self.max_request_bytes);
        ensure!(right, "--max-request-bytes must be between 1 and {MAX_REQUEST_BYTES}");
        ensure!((4..=31).contains(&self.bcrypt_cost), "--bcrypt-cost must be between 4 and 31");
        Ok(Config {
            data_dir,
            wal_dir,
            metrics: endpoints("listen-metrics-urls", &self.listen_metrics_urls, tls.is_some(), "")?,
            advertise_client_urls: urls("advertise-client-urls", advertised)?,
            peers,
            peer_tls,
            initial_cluster,
            joins,
            force_new_cluster: self.force_new_cluster,
            tick,
            election_ticks,
            strict_reconfig_check: self.strict_reconfig_check,
            advertise_peer_urls,
            compaction: self.compaction()?,
            progress_interval: duration(&self.watch_progress_notify_interval)
                .map(|interval| if interval.is_zero() { PROGRESS_INTERVAL } else { interval })
                .with_context(|| {
                    format!("--watch-progress-notify-interval={} is no duration", self.watch_progress_notify_interval)
                })?,
            tokens: token::Config::parse(&self.auth_token, Duration::from_secs(self.auth_token_ttl))?,
            bcrypt_cost: self.bcrypt_cost,
            initial_corrupt_check: self.experimental_initial_corrupt_check || self.is_enabled(CORRUPT_CHECK)?,
            clients,
            tls,
            tls_policy: tls::policy(&self)?,
            peer_name: self.peer_cert_allowed_cn.clone(),
            tuning: self.tuning()?,
            quota_bytes: self.quota_bytes(),
            log_level: self.known_log_level()?,
            log_output: self.log_output()?,
            name: self.name,
            cluster_token: self.initial_cluster_token,
            max_txn_ops: self.max_txn_ops,
            max_request_bytes: self.max_request_bytes,
            // As etcd has it.
            catchup_entries: self.snapshot_catchup_entries,
            snapshot_count: if self.snapshot_count == 0 { DEFAULT_SNAPSHOT_COUNT } else { self.snapshot_count },
        })
    }

    fn quota_bytes(&self) -> u64 {
        match self.quota_backend_bytes {
            ..0 => u64::MAX,
            0 => DEFAULT_QUOTA_BYTES,
            bytes => bytes.unsigned_abs(),
        }
    }

    fn known_log_level(&self) -> Result<String> {
        let (level, known) = (&self.log_level, LOG_LEVELS.join(", "));
        ensure!(LOG_LEVELS.contains(&level.as_str()), "--log-level={level} is none of {known}");
        Ok(if self.debug { "debug".to_owned() } else { level.clone() })
    }

    fn tuning(&self) -> Result<Tuning> {
        let read = |flag: &str, text: &str| duration(text).with_context(|| format!("--{flag}={text} is no duration"));
        ensure!(self.max_concurrent_streams > 0, "--max-concurrent-streams must be at least 1");
        let interval = read("grpc-keepalive-interval", &self.grpc_keepalive_interval)?;
        let keepalive_timeout = read("grpc-keepalive-timeout", &self.grpc_keepalive_timeout)?;
        ensure!(!keepalive_timeout.is_zero(), "--grpc-keepalive-timeout must be more than 0");
        Ok(Tuning {
            max_streams: self.max_concurrent_streams,
            keepalive_interval: (!interval.is_zero()).then_some(interval),
            keepalive_timeout,
            ..Tuning::default()
        })
    }

    /// A heartbeat per tick; the election timeout in ticks.
    fn ticks(&self) -> Result<(Duration, usize)> {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        ensure!(heartbeat > 0, "--heartbeat-interval must be at least 1 (milliseconds)");
        ensure!(
            election >= 5 * heartbeat,
            "--election-timeout={election} should be at least as 5 times as --heartbeat-interval={heartbeat}"
        );
        ensure!(election <= 50_000, "--election-timeout={election} is too long, and should be less than 50000ms");
        let ticks = usize::try_from(election / heartbeat).context("--election-timeout is too long")?;
        Ok((Duration::from_millis(heartbeat), ticks))
    }

    /// Whether a feature is enabled; other features than this one there are not.
    fn is_enabled(&self, feature: &str) -> Result<bool> {
        let mut enabled = false;
        for gate in split(&self.feature_gates) {
            enabled = match gate.split_once('=') {
                Some((name, value)) if name == feature => {
                    boolean(value).with_context(|| format!("--feature-gates: invalid value of {name}={value}"))?
                }
                Some((name, _)) => bail!("--feature-gates: unrecognized feature gate: {name}"),
                None => bail!("--feature-gates: missing bool value for {gate}"),
            };
        }
        Ok(enabled)
    }

    fn compaction(&self) -> Result<Compaction> {
        let retention = if self.auto_compaction_retention.is_empty() { "0" } else { &self.auto_compaction_retention };
        let wrong =
            || format!("--auto-compaction-retention={retention} does not fit mode {}", self.auto_compaction_mode);
        match self.auto_compaction_mode.as_str() {
            "" | "periodic" => {
                let hours = retention.parse::<u64>().ok().and_then(|h| h.checked_mul(3600)).map(Duration::from_secs);
                let keep = hours.or_else(|| duration(retention)).with_context(wrong)?;
                Ok(if keep.is_zero() { Compaction::Off } else { Compaction::Periodic(keep) })
            }
            "revision" => match retention.parse::<i64>().ok().filter(|n| *n >= 0).with_context(wrong)? {
                0 => Ok(Compaction::Off),
                keep => Ok(Compaction::Revisions(keep)),
            },
            mode => bail!("--auto-compaction-mode={mode} is neither periodic nor revision"),
        }
    }
}

/// As Go reads it.
fn boolean(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => bail!("use true or false"),
    }
}

/// A duration as Go writes it: numbers with units, summed up.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let mut total = Duration::ZERO;
    if text == "0" {
        return Some(total);
    }
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        total = total.checked_add(Duration::try_from_secs_f64(number * factor).ok()?)?;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|url| !url.is_empty())
}

fn parse_url(flag: &str, text: &str) -> Result<Url> {
    let url = Url::parse(text).with_context(|| format!("--{flag}: {text} is no URL"))?;
    ensure!(matches!(url.scheme(), "http" | "https"), "--{flag}: {text} is neither http nor https");
    ensure!(matches!(url.path(), "" | "/"), "--{flag}: {text} has a path");
    ensure!(has_port(text), "--{flag}: {text} has no port");
    Ok(url)
}

/// Said in so many words: a parsed URL does not tell its scheme's own port from none.
pub fn has_port(url: &str) -> bool {
    let port = url.trim_end_matches('/').rsplit_once(':').map_or("", |(_, port)| port);
    port.parse::<u16>().is_ok()
}

fn urls(flag: &str, text: &str) -> Result<Vec<String>> {
    let urls = split(text).map(|url| parse_url(flag, url).map(|_| url.trim_end_matches('/').to_owned()));
    urls.collect()
}

fn endpoints(flag: &str, text: &str, have_tls: bool, prefix: &str) -> Result<Vec<Endpoint>> {
    let mut all = Vec::new();
    for text in split(text) {
        let url = parse_url(flag, text)?;
        let tls = url.scheme() == "https";
        ensure!(have_tls || !tls, "--{flag}: {text} needs --{prefix}cert-file and --{prefix}key-file");
        let port = url.port_or_known_default().expect("both schemes have one");
        let host = url.host_str().with_context(|| format!("--{flag}: {text} has no host"))?;
        for address in resolve(host, port).with_context(|| format!("--{flag}: cannot resolve {host}"))? {
            all.push(Endpoint { address, tls });
        }
    }
    Ok(all)
}

/// A name may stand for several addresses; `localhost` for one per family, of which the first
/// is enough.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let mut found: Vec<SocketAddr> = (bare, port).to_socket_addrs()?.collect();
    found.sort_by_key(|address| !address.is_ipv4());
    found.truncate(1);
    ensure!(!found.is_empty(), "no address");
    Ok(found)
}

#[cfg(test)]
mod tests;
