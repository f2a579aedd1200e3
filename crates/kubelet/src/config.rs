//! `KubeletConfiguration` v1beta1, and the settings made of it and the flags.
//!
//! Only fields that have an effect exist; any other is an error that names it. Everything is
//! checked here, before a port is bound.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use podsync::eviction::{self, Thresholds};
use serde::{Deserialize, Serialize};

use crate::flags::Flags;

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubeletConfiguration {
    pub api_version: String,
    pub kind: String,
    pub address: IpAddr,
    pub port: u16,
    pub healthz_port: u16,
    pub healthz_bind_address: IpAddr,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_pod_path: Option<PathBuf>,
    pub cgroup_root: String,
    pub cgroup_driver: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub container_runtime_endpoint: String,
    pub pod_logs_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_private_key_file: Option<PathBuf>,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub max_pods: u32,
    #[serde(with = "go_duration")]
    pub node_status_update_frequency: Duration,
    #[serde(with = "go_duration")]
    pub node_status_report_frequency: Duration,
    pub node_lease_duration_seconds: i32,
    pub resolv_conf: PathBuf,
    pub kube_reserved: BTreeMap<String, String>,
    pub system_reserved: BTreeMap<String, String>,
    pub eviction_hard: BTreeMap<String, String>,
    pub fail_swap_on: bool,
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    pub serialize_image_pulls: bool,
    pub register_node: bool,
    pub register_with_taints: Vec<Taint>,
    pub allowed_unsafe_sysctls: Vec<String>,
    #[serde(rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: Webhook,
    pub anonymous: Anonymous,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct X509 {
    #[serde(rename = "clientCAFile", skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Webhook {
    pub enabled: bool,
    #[serde(rename = "cacheTTL", with = "go_duration")]
    pub cache_ttl: Duration,
}

impl Default for Webhook {
    fn default() -> Webhook {
        Webhook { enabled: true, cache_ttl: Duration::from_secs(120) }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Anonymous {
    pub enabled: bool,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authorization {
    pub mode: String,
    pub webhook: AuthorizationWebhook,
}

impl Default for Authorization {
    fn default() -> Authorization {
        Authorization { mode: "Webhook".into(), webhook: AuthorizationWebhook::default() }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationWebhook {
    #[serde(rename = "cacheAuthorizedTTL", with = "go_duration")]
    pub cache_authorized_ttl: Duration,
    #[serde(rename = "cacheUnauthorizedTTL", with = "go_duration")]
    pub cache_unauthorized_ttl: Duration,
}

impl Default for AuthorizationWebhook {
    fn default() -> AuthorizationWebhook {
        let (yes, no) = (Duration::from_secs(300), Duration::from_secs(30));
        AuthorizationWebhook { cache_authorized_ttl: yes, cache_unauthorized_ttl: no }
    }
}

impl Default for KubeletConfiguration {
    fn default() -> KubeletConfiguration {
        KubeletConfiguration {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 10250,
            healthz_port: 10248,
            healthz_bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            static_pod_path: None,
            cgroup_root: "/".into(),
            cgroup_driver: "cgroupfs".into(),
            cgroups_per_qos: true,
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            tls_cert_file: None,
            tls_private_key_file: None,
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            max_pods: 110,
            node_status_update_frequency: Duration::from_secs(10),
            node_status_report_frequency: Duration::from_secs(300),
            node_lease_duration_seconds: 40,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            kube_reserved: BTreeMap::new(),
            system_reserved: BTreeMap::new(),
            eviction_hard: eviction::defaults(),
            fail_swap_on: true,
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            serialize_image_pulls: true,
            register_node: true,
            register_with_taints: Vec::new(),
            allowed_unsafe_sysctls: Vec::new(),
            provider_id: None,
        }
    }
}

mod go_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).ok_or_else(|| serde::de::Error::custom(format!("invalid duration {text:?}")))
    }

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&podsync::duration::go(*duration))
    }
}

/// Go's syntax: `1h2m3.5s`, `500ms`, `0`.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = match rest {
            r if r.starts_with("ms") => (0.001, 2),
            r if r.starts_with('h') => (3600.0, 1),
            r if r.starts_with('m') => (60.0, 1),
            r if r.starts_with('s') => (1.0, 1),
            _ => return None,
        };
        total += value * unit;
        rest = &rest[length..];
    }
    (!text.is_empty()).then(|| Duration::from_secs_f64(total))
}

/// Everything the daemon is told, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub config: KubeletConfiguration,
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    pub root_dir: PathBuf,
    pub kubeconfig: Option<PathBuf>,
    pub node_labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub log_max_bytes: u64,
    pub eviction: Thresholds,
}

impl Settings {
    pub fn load(flags: &Flags) -> anyhow::Result<Settings> {
        let mut config: KubeletConfiguration = match &flags.config {
            Some(path) => daemon::config::load(path, API_VERSION, KIND)?,
            None => KubeletConfiguration::default(),
        };
        if let Some(endpoint) = &flags.container_runtime_endpoint {
            config.container_runtime_endpoint.clone_from(endpoint);
        }
        if !flags.allowed_unsafe_sysctls.is_empty() {
            config.allowed_unsafe_sysctls.clone_from(&flags.allowed_unsafe_sysctls);
        }
        validate(&config)?;
        let mut taints = config.register_with_taints.clone();
        if !flags.register_with_taints.is_empty() {
            taints = flags.register_with_taints.iter().map(|text| parse_taint(text)).collect::<Result<_, _>>()?;
        }
        config.register_with_taints.clone_from(&taints);
        ensure!(flags.node_ip.len() <= 2, "--node-ip: at most one address per family");
        let log_max_bytes = podsync::quantity::value(&Quantity(config.container_log_max_size.clone()));
        ensure!(log_max_bytes > 0, "containerLogMaxSize: {:?} is no size", config.container_log_max_size);
        Ok(Settings {
            node_name: node_name(flags.hostname_override.as_deref())?,
            node_ips: flags.node_ip.clone(),
            root_dir: std::path::absolute(&flags.root_dir)?,
            kubeconfig: flags.kubeconfig.clone(),
            node_labels: parse_labels(&flags.node_labels)?,
            taints,
            log_max_bytes: log_max_bytes.unsigned_abs(),
            eviction: thresholds(&config)?,
            config,
        })
    }

    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }
}

fn validate(config: &KubeletConfiguration) -> anyhow::Result<()> {
    match config.cgroup_driver.as_str() {
        "cgroupfs" => {}
        "systemd" => {
            bail!("cgroupDriver: systemd is not supported; configure the runtime and the kubelet for cgroupfs")
        }
        other => bail!("cgroupDriver: {other:?}: must be cgroupfs"),
    }
    ensure!(config.cgroup_root.starts_with('/'), "cgroupRoot: {:?} is not absolute", config.cgroup_root);
    ensure!(
        config.authorization.mode == "Webhook",
        "authorization.mode: {:?}: only Webhook is supported: the API of a node is never open",
        config.authorization.mode
    );
    ensure!(
        config.tls_cert_file.is_some() == config.tls_private_key_file.is_some(),
        "tlsCertFile and tlsPrivateKeyFile: set both or neither"
    );
    ensure!(config.container_log_max_files >= 2, "containerLogMaxFiles: must be at least 2");
    ensure!(config.node_lease_duration_seconds > 0, "nodeLeaseDurationSeconds: must be positive");
    ensure!(!config.node_status_update_frequency.is_zero(), "nodeStatusUpdateFrequency: must be positive");
    for pattern in &config.allowed_unsafe_sysctls {
        podsync::sysctl::validate_pattern(pattern).map_err(|e| anyhow!("allowedUnsafeSysctls: {e}"))?;
    }
    cri_endpoint(&config.container_runtime_endpoint)?;
    thresholds(config)?;
    if config.fail_swap_on {
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        ensure!(
            swaps.lines().count() <= 1,
            "running with swap on is not supported, please disable swap or set failSwapOn to false"
        );
    }
    Ok(())
}

fn thresholds(config: &KubeletConfiguration) -> anyhow::Result<Thresholds> {
    Thresholds::parse(&config.eviction_hard).map_err(|error| anyhow!("evictionHard: {error}"))
}

fn cri_endpoint(endpoint: &str) -> anyhow::Result<()> {
    cri::Client::check_endpoint(endpoint).context("containerRuntimeEndpoint")
}

fn node_name(chosen: Option<&str>) -> anyhow::Result<String> {
    let name = match chosen {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let name = name.trim().to_lowercase();
    ensure!(!name.is_empty(), "empty hostname is invalid");
    Ok(name)
}

fn parse_labels(pairs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let split = |pair: &String| {
        let (key, value) = pair.split_once('=').with_context(|| format!("--node-labels: {pair:?} is not key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    pairs.iter().filter(|pair| !pair.is_empty()).map(split).collect()
}

/// `key=value:effect` or `key:effect`.
fn parse_taint(text: &str) -> anyhow::Result<Taint> {
    let invalid = || format!("--register-with-taints: {text:?} is not key=value:effect");
    let (pair, effect) = text.rsplit_once(':').with_context(invalid)?;
    ensure!(matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute"), "{}", invalid());
    let (key, value) = pair.split_once('=').map_or((pair, None), |(k, v)| (k, Some(v)));
    Ok(Taint {
        key: key.to_owned(),
        value: value.filter(|v| !v.is_empty()).map(ToOwned::to_owned),
        effect: effect.to_owned(),
        ..Taint::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        };
        check("10s", Some(10_000));
        check("1m30s", Some(90_000));
        check("250ms", Some(250));
        check("1.5h", Some(5_400_000));
        check("0", Some(0));
        check("10", None);
        check("", None);
        check("5x", None);
    }

    #[test]
    fn is_shown_as_it_is_written() {
        let shown = serde_json::to_value(KubeletConfiguration::default()).expect("plain data");
        assert_eq!(shown["nodeStatusReportFrequency"], "5m0s");
        assert_eq!(shown["authorization"]["webhook"]["cacheAuthorizedTTL"], "5m0s");
        assert_eq!(shown["clusterDNS"], serde_json::json!([]));
        let again: KubeletConfiguration = serde_json::from_value(shown.clone()).expect("every field is known");
        assert_eq!(serde_json::to_value(again).expect("plain data"), shown);
    }

    #[test]
    fn files() {
        let check = |body: &str, expected: Result<(), &str>| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("config.yaml");
            std::fs::write(&path, format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{body}")).expect("writable");
            let loaded = daemon::config::load::<KubeletConfiguration>(&path, API_VERSION, KIND)
                .map_err(anyhow::Error::from)
                .and_then(|config| validate(&config));
            match (loaded, expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(word)) => {
                    let text = format!("{error:#}");
                    assert!(text.contains(word), "{text}");
                }
                (loaded, expected) => panic!("{loaded:?} is not {expected:?}"),
            }
        };
        check("clusterDNS: [10.96.0.10]\nfailSwapOn: false\ncgroupsPerQOS: true\n", Ok(()));
        check(
            "failSwapOn: false\nauthentication: {x509: {clientCAFile: /ca.crt}, webhook: {cacheTTL: 2m0s}}\n",
            Ok(()),
        );
        check("failSwapOn: false\nallowedUnsafeSysctls: ['kernel.msg*', net.core.somaxconn]\n", Ok(()));
        check("allowedUnsafeSysctls: ['kernel.*']\n", Err("not known to be namespaced"));
        check("failSwapOn: false\nevictionHard: {nodefs.available: 0%, memory.available: 1Gi}\n", Ok(()));
        check("evictionHard: {disk.available: 1Gi}\n", Err("evictionHard: unsupported eviction signal disk.available"));
        check("clusterDns: [10.96.0.10]\n", Err("clusterDns"));
        check("authorization: {mode: AlwaysAllow}\n", Err("never open"));
        check("cgroupDriver: systemd\n", Err("cgroupDriver"));
        check("nodeStatusUpdateFrequency: soon\n", Err("soon"));
    }

    #[test]
    fn taints() {
        let taint = parse_taint("a/b=c:NoSchedule").expect("valid");
        assert_eq!(
            (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()),
            ("a/b", Some("c"), "NoSchedule")
        );
        assert_eq!(parse_taint("key:NoExecute").expect("valid").value, None);
        assert!(parse_taint("key=v").is_err() && parse_taint("k:Never").is_err());
    }
}
