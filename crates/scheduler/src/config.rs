//! `KubeSchedulerConfiguration`, `kubescheduler.config.k8s.io/v1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::SignedDuration;
use scheduling::Profile;
use scheduling::profile::{PluginSet, Point, ProfileConfig};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::queue::Backoff;

pub const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
pub const KIND: &str = "KubeSchedulerConfiguration";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    /// Decisions are made one at a time here, so that each sees the one before.
    parallelism: Option<i64>,
    leader_election: LeaderElection,
    client_connection: ClientConnection,
    percentage_of_nodes_to_score: Option<i64>,
    pod_initial_backoff_seconds: u64,
    pod_max_backoff_seconds: u64,
    profiles: Vec<FileProfile>,
    extenders: Vec<Value>,
    enable_profiling: Option<bool>,
    enable_contention_profiling: Option<bool>,
    delay_cache_until_active: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LeaderElection {
    pub leader_elect: bool,
    #[serde(deserialize_with = "duration")]
    pub lease_duration: Duration,
    #[serde(deserialize_with = "duration")]
    pub renew_deadline: Duration,
    #[serde(deserialize_with = "duration")]
    pub retry_period: Duration,
    pub resource_lock: String,
    pub resource_name: String,
    pub resource_namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ClientConnection {
    kubeconfig: Option<PathBuf>,
    accept_content_types: Option<String>,
    content_type: Option<String>,
    qps: Option<f64>,
    burst: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct FileProfile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i64>,
    plugins: BTreeMap<String, FilePluginSet>,
    plugin_config: Vec<PluginConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FilePluginSet {
    enabled: Vec<FilePlugin>,
    disabled: Vec<FilePlugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePlugin {
    name: String,
    weight: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
}

impl Default for File {
    fn default() -> Self {
        File {
            _api_version: API_VERSION.into(),
            _kind: KIND.into(),
            parallelism: None,
            leader_election: LeaderElection::default(),
            client_connection: ClientConnection::default(),
            percentage_of_nodes_to_score: None,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: Vec::new(),
            extenders: Vec::new(),
            enable_profiling: None,
            enable_contention_profiling: None,
            delay_cache_until_active: false,
        }
    }
}

impl Default for LeaderElection {
    fn default() -> Self {
        LeaderElection {
            leader_elect: true,
            lease_duration: client::leader::LEASE_DURATION,
            renew_deadline: client::leader::RENEW_DEADLINE,
            retry_period: client::leader::RETRY_PERIOD,
            resource_lock: "leases".into(),
            resource_name: "kube-scheduler".into(),
            resource_namespace: "kube-system".into(),
        }
    }
}

/// `15s`, `1m0s`: as Go prints durations.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed: SignedDuration = text.parse().map_err(serde::de::Error::custom)?;
    Duration::try_from(parsed).map_err(serde::de::Error::custom)
}

/// What the file says, checked and with defaults.
pub struct Config {
    pub kubeconfig: Option<PathBuf>,
    pub leader_election: LeaderElection,
    pub profiles: Vec<Profile>,
    pub backoff: Backoff,
    /// Writes per second and how many may come at once; unlimited unless configured: the API server's flow
    /// control knows better than a client what it can take.
    pub rate: Option<(f64, usize)>,
    pub delay_cache_until_active: bool,
}

impl Config {
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        match path {
            None => File::default().check(),
            Some(path) => {
                let file: File = daemon::config::load(path, API_VERSION, KIND)?;
                file.check().with_context(|| format!("invalid configuration file {}", path.display()))
            }
        }
    }
}

impl File {
    fn check(self) -> anyhow::Result<Config> {
        ensure!(self.extenders.is_empty(), "extenders: scheduler extenders are not supported");
        ensure!(self.parallelism.is_none_or(|p| p > 0), "parallelism: Invalid value: must be greater than zero");
        let (initial, max) = (self.pod_initial_backoff_seconds, self.pod_max_backoff_seconds);
        ensure!(initial > 0, "podInitialBackoffSeconds: Invalid value: must be greater than 0");
        ensure!(
            max >= initial,
            "podMaxBackoffSeconds: Invalid value: must be greater than or equal to PodInitialBackoffSeconds"
        );
        self.leader_election.check()?;
        self.say_what_is_ignored();
        let percentage = percentage(self.percentage_of_nodes_to_score)?;
        let rate = self.client_connection.rate()?;
        Ok(Config {
            kubeconfig: self.client_connection.kubeconfig,
            leader_election: self.leader_election,
            profiles: profiles(&self.profiles, percentage)?,
            backoff: Backoff { initial: Duration::from_secs(initial), max: Duration::from_secs(max) },
            rate,
            delay_cache_until_active: self.delay_cache_until_active,
        })
    }

    /// Fields of upstream's that mean nothing here, so that its files can be used as they are.
    fn say_what_is_ignored(&self) {
        let connection = &self.client_connection;
        let ignored = [
            ("parallelism", self.parallelism.is_some()),
            ("enableProfiling", self.enable_profiling.is_some()),
            ("enableContentionProfiling", self.enable_contention_profiling.is_some()),
            ("clientConnection.contentType", connection.content_type.is_some()),
            ("clientConnection.acceptContentTypes", connection.accept_content_types.is_some()),
        ];
        for (field, _) in ignored.iter().filter(|(_, given)| *given) {
            tracing::info!(field, "configuration field has no effect");
        }
    }
}

impl LeaderElection {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.resource_lock == "leases",
            r#"leaderElection.resourceLock: Unsupported value: supported values: "leases""#
        );
        ensure!(!self.resource_name.is_empty(), "leaderElection.resourceName: Required value");
        ensure!(!self.resource_namespace.is_empty(), "leaderElection.resourceNamespace: Required value");
        ensure!(
            self.lease_duration > self.renew_deadline,
            "leaderElection.leaseDuration: Invalid value: LeaseDuration must be greater than RenewDeadline"
        );
        ensure!(
            self.renew_deadline > self.retry_period && !self.retry_period.is_zero(),
            "leaderElection.renewDeadline: Invalid value: RenewDeadline must be greater than RetryPeriod"
        );
        Ok(())
    }
}

impl ClientConnection {
    fn rate(&self) -> anyhow::Result<Option<(f64, usize)>> {
        let Some(qps) = self.qps.filter(|qps| *qps > 0.0) else { return Ok(None) };
        let burst = usize::try_from(self.burst.unwrap_or(qps.ceil() as i64));
        let burst = burst.context("clientConnection.burst: Invalid value: must be non-negative")?;
        Ok(Some((qps, burst.max(1))))
    }
}

fn percentage(given: Option<i64>) -> anyhow::Result<Option<u8>> {
    given
        .map(|p| u8::try_from(p).ok().filter(|p| *p <= 100))
        .map(|p| p.context("percentageOfNodesToScore: Invalid value: not in valid range [0-100]"))
        .transpose()
}

fn profiles(given: &[FileProfile], common: Option<u8>) -> anyhow::Result<Vec<Profile>> {
    if given.is_empty() {
        let config = ProfileConfig { percentage_of_nodes_to_score: common, ..ProfileConfig::default() };
        return Ok(vec![Profile::new(&config)?]);
    }
    let mut profiles: Vec<Profile> = Vec::new();
    for (i, file) in given.iter().enumerate() {
        let profile = Profile::new(&file.read(common).with_context(|| format!("profiles[{i}]"))?)?;
        ensure!(!profile.scheduler_name.is_empty(), "profiles[{i}].schedulerName: Required value");
        let twice = profiles.iter().any(|p| p.scheduler_name == profile.scheduler_name);
        ensure!(!twice, "profiles[{i}].schedulerName: Duplicate value: {:?}", profile.scheduler_name);
        profiles.push(profile);
    }
    Ok(profiles)
}

impl FileProfile {
    fn read(&self, common: Option<u8>) -> anyhow::Result<ProfileConfig> {
        let mut config = ProfileConfig {
            scheduler_name: self.scheduler_name.clone(),
            percentage_of_nodes_to_score: percentage(self.percentage_of_nodes_to_score)?.or(common),
            ..ProfileConfig::default()
        };
        for (point, set) in &self.plugins {
            let set = set.read();
            match point.as_str() {
                "multiPoint" => config.multi_point = set,
                "preEnqueue" => drop(config.points.insert(Point::PreEnqueue, set)),
                "filter" => drop(config.points.insert(Point::Filter, set)),
                "postFilter" => drop(config.points.insert(Point::PostFilter, set)),
                "score" => drop(config.points.insert(Point::Score, set)),
                // One plugin covers each of these, or none does; switching it means nothing.
                "queueSort" | "preFilter" | "preScore" | "reserve" | "permit" | "preBind" | "bind" | "postBind" => {
                    tracing::info!(point, "plugins of this extension point cannot be switched on their own");
                }
                other => bail!("plugins: unknown extension point {other:?}"),
            }
        }
        for plugin in &self.plugin_config {
            let twice = config.args.insert(plugin.name.clone(), plugin.args.clone()).is_some();
            ensure!(!twice, "pluginConfig: Duplicate value: {:?}", plugin.name);
        }
        Ok(config)
    }
}

impl FilePluginSet {
    fn read(&self) -> PluginSet {
        PluginSet {
            enabled: self.enabled.iter().map(|p| (p.name.clone(), p.weight)).collect(),
            disabled: self.disabled.iter().map(|p| p.name.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Config> {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{text}");
        daemon::config::yaml::<File>(&text)?.check()
    }

    #[test]
    fn defaults() {
        let config = load("").expect("valid");
        assert_eq!(config.profiles.len(), 1);
        assert_eq!(&*config.profiles[0].scheduler_name, "default-scheduler");
        assert!(config.leader_election.leader_elect && config.rate.is_none());
        assert_eq!(config.leader_election.lease_duration, Duration::from_secs(15));
    }

    #[test]
    fn a_full_file() {
        let config = load(
            r#"
leaderElection: {leaderElect: false, leaseDuration: 1m0s, resourceName: mine}
clientConnection: {kubeconfig: /etc/x.conf, qps: 100, burst: 200, contentType: application/vnd.kubernetes.protobuf}
percentageOfNodesToScore: 50
podMaxBackoffSeconds: 30
profiles:
- schedulerName: packing
  plugins:
    score:
      disabled: [{name: ImageLocality}]
      enabled: [{name: NodeResourcesFit, weight: 10}]
    multiPoint: {disabled: [{name: PodTopologySpread}]}
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}
- schedulerName: second
"#,
        )
        .expect("valid");
        assert_eq!(config.kubeconfig.as_deref(), Some(Path::new("/etc/x.conf")));
        assert_eq!((config.rate, config.backoff.max), (Some((100.0, 200)), Duration::from_secs(30)));
        assert_eq!(config.leader_election.lease_duration, Duration::from_secs(60));
        let packing = &config.profiles[0];
        assert_eq!(packing.percentage_of_nodes_to_score, Some(50));
        let scores: Vec<_> = packing.scores().map(|(p, w)| (p.name(), w)).collect();
        assert!(scores.contains(&("NodeResourcesFit", 10)) && !scores.iter().any(|(n, _)| *n == "ImageLocality"));
        assert!(!packing.filters().any(|p| p.name() == "PodTopologySpread"));
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", load(text).err().expect("an error"));
            assert!(error.contains(expected), "{error}");
        };
        check("profilez: []", "profilez");
        check("profiles: [{plugins: {score: {enabled: [{name: Astrology}]}}}]", r#"plugin "Astrology" does not exist"#);
        check("profiles: [{plugins: {scores: {}}}]", r#"unknown extension point "scores""#);
        check("profiles: [{schedulerName: a}, {schedulerName: a}]", "Duplicate value");
        check("percentageOfNodesToScore: 101", "not in valid range [0-100]");
        check("leaderElection: {leaseDuration: 5s}", "LeaseDuration must be greater than RenewDeadline");
        check("extenders: [{}]", "not supported");
        check("podInitialBackoffSeconds: 0", "must be greater than 0");
        let args = "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]";
        check(args, "hardPodAffinityWeight: not in valid range [0-100]");
    }
}
