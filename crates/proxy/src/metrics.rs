//! Metrics with kube-proxy's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use proxyrules::{RuleSet, Stats, Table};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByFamily {
    ip_family: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByTable {
    table: &'static str,
    ip_family: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByPolicy {
    traffic_policy: &'static str,
    ip_family: &'static str,
}

type Durations = Family<ByFamily, Histogram, fn() -> Histogram>;

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    sync: Durations,
    full_sync: Durations,
    partial_sync: Durations,
    network_programming: Durations,
    last_sync: Family<ByFamily, Gauge>,
    last_queued: Family<ByFamily, Gauge>,
    restore_failures: Family<ByFamily, Counter>,
    partial_restore_failures: Family<ByFamily, Counter>,
    rules: Family<ByTable, Gauge>,
    rules_last: Family<ByTable, Gauge>,
    service_changes: Family<ByFamily, Counter>,
    services_pending: Family<ByFamily, Gauge>,
    endpoint_changes: Family<ByFamily, Counter>,
    endpoints_pending: Family<ByFamily, Gauge>,
    no_local_endpoints: Family<ByPolicy, Gauge>,
}

fn sync_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// A quarter of a second at first, then whole seconds, up to five minutes.
fn programming_histogram() -> Histogram {
    let fine = [0.25, 0.5];
    let seconds = (1..60).map(f64::from);
    let minutes = (12..=60).step_by(5).map(|step| f64::from(step) * 5.0);
    Histogram::new(fine.into_iter().chain(seconds).chain(minutes))
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            sync: Family::new_with_constructor(sync_histogram),
            full_sync: Family::new_with_constructor(sync_histogram),
            partial_sync: Family::new_with_constructor(sync_histogram),
            network_programming: Family::new_with_constructor(programming_histogram),
            last_sync: Family::default(),
            last_queued: Family::default(),
            restore_failures: Family::default(),
            partial_restore_failures: Family::default(),
            rules: Family::default(),
            rules_last: Family::default(),
            service_changes: Family::default(),
            services_pending: Family::default(),
            endpoint_changes: Family::default(),
            endpoints_pending: Family::default(),
            no_local_endpoints: Family::default(),
        };
        metrics.register_durations(registry);
        metrics.register_counts(registry);
        metrics
    }

    fn register_durations(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kubeproxy");
        let mut add = |name: &str, help: &str, durations: &Durations| registry.register(name, help, durations.clone());
        add("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", &self.sync);
        add("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency of full resyncs", &self.full_sync);
        add("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency of partial syncs", &self.partial_sync);
        let help = "In cluster network programming latency in seconds";
        add("network_programming_duration_seconds", help, &self.network_programming);
    }

    fn register_counts(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kubeproxy_sync_proxy_rules");
        registry.register("last_timestamp_seconds", "The last time proxy rules were synced", self.last_sync.clone());
        let help = "The last time a sync of proxy rules was queued";
        registry.register("last_queued_timestamp_seconds", help, self.last_queued.clone());
        let help = "Cumulative proxy iptables restore failures";
        registry.register("iptables_restore_failures", help, self.restore_failures.clone());
        let help = "Cumulative proxy iptables partial restore failures";
        registry.register("iptables_partial_restore_failures", help, self.partial_restore_failures.clone());
        registry.register("iptables_total", "Total number of iptables rules owned by kube-proxy", self.rules.clone());
        let help = "Number of iptables rules written by kube-proxy in last sync";
        registry.register("iptables_last", help, self.rules_last.clone());
        registry.register("service_changes", "Cumulative proxy rules Service changes", self.service_changes.clone());
        let help = "Pending proxy rules Service changes";
        registry.register("service_changes_pending", help, self.services_pending.clone());
        let help = "Cumulative proxy rules Endpoint changes";
        registry.register("endpoint_changes", help, self.endpoint_changes.clone());
        let help = "Pending proxy rules Endpoint changes";
        registry.register("endpoint_changes_pending", help, self.endpoints_pending.clone());
        let help = "Number of services with a Local traffic policy and no endpoints";
        registry.register("no_local_endpoints", help, self.no_local_endpoints.clone());
    }

    pub fn of(&self, family: proxyrules::Family) -> FamilyMetrics {
        FamilyMetrics { all: self.clone(), family: family.address_type() }
    }
}

/// The metrics of one IP family.
#[derive(Debug, Clone)]
pub struct FamilyMetrics {
    all: Metrics,
    family: &'static str,
}

impl FamilyMetrics {
    fn key(&self) -> ByFamily {
        ByFamily { ip_family: self.family }
    }

    pub fn service_changed(&self) {
        self.all.service_changes.get_or_create(&self.key()).inc();
        self.all.services_pending.get_or_create(&self.key()).inc();
    }

    pub fn endpoints_changed(&self) {
        self.all.endpoint_changes.get_or_create(&self.key()).inc();
        self.all.endpoints_pending.get_or_create(&self.key()).inc();
    }

    pub fn queued(&self, now_seconds: i64) {
        self.all.last_queued.get_or_create(&self.key()).set(now_seconds);
    }

    pub fn taken_up(&self) {
        self.all.services_pending.get_or_create(&self.key()).set(0);
        self.all.endpoints_pending.get_or_create(&self.key()).set(0);
    }

    pub fn synced(&self, took: Duration, full: bool, now_seconds: i64) {
        let kind = if full { &self.all.full_sync } else { &self.all.partial_sync };
        kind.get_or_create(&self.key()).observe(took.as_secs_f64());
        self.all.sync.get_or_create(&self.key()).observe(took.as_secs_f64());
        self.all.last_sync.get_or_create(&self.key()).set(now_seconds);
    }

    pub fn restore_failed(&self, full: bool) {
        self.all.restore_failures.get_or_create(&self.key()).inc();
        if !full {
            self.all.partial_restore_failures.get_or_create(&self.key()).inc();
        }
    }

    pub fn programmed(&self, seconds_after_trigger: f64) {
        self.all.network_programming.get_or_create(&self.key()).observe(seconds_after_trigger);
    }

    pub fn rules(&self, rules: &RuleSet, restore: &str, stats: &Stats) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let mut written = [0usize; 3];
        let mut table = 0;
        for line in restore.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = Table::ALL.iter().position(|table| table.as_str() == name).unwrap_or(0);
            }
            written[table] += usize::from(line.starts_with("-A "));
        }
        for (table, written) in Table::ALL.into_iter().zip(written) {
            let key = ByTable { table: table.as_str(), ip_family: self.family };
            self.all.rules.get_or_create(&key).set(count(rules.rules(table)));
            self.all.rules_last.get_or_create(&key).set(count(written));
        }
        for (traffic_policy, number) in [("internal", stats.no_local_internal), ("external", stats.no_local_external)] {
            let key = ByPolicy { traffic_policy, ip_family: self.family };
            self.all.no_local_endpoints.get_or_create(&key).set(count(number));
        }
    }
}
