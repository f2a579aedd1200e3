//! What `/metrics` tells, under etcd's names where the meaning is etcd's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::config::ETCD_VERSION;
use crate::shared::Shared;

/// A histogram of durations in seconds, from 1 ms to 8 s as etcd has them.
#[derive(Debug)]
pub struct Durations(Histogram);

impl Default for Durations {
    fn default() -> Durations {
        Durations(Histogram::new(exponential_buckets(0.001, 2.0, 14)))
    }
}

impl Durations {
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Handled {
    pub grpc_code: String,
    pub grpc_method: &'static str,
    pub grpc_service: &'static str,
}

/// What is counted where it happens; the rest is read off the state when asked for.
#[derive(Debug, Default)]
pub struct Gauges {
    pub syncs: Arc<Durations>,
    pub checkpoints: Durations,
    pub handled: Family<Handled, Counter>,
    disk_bytes: AtomicU64,
}

impl Gauges {
    pub fn set_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    pub fn count(&self, service: &'static str, method: &'static str, code: tonic::Code) {
        // As grpc-go spells them.
        let grpc_code = match code {
            tonic::Code::Ok => "OK".to_owned(),
            tonic::Code::Cancelled => "Canceled".to_owned(),
            code => format!("{code:?}"),
        };
        let labels = Handled { grpc_code, grpc_method: method, grpc_service: service };
        self.handled.get_or_create(&labels).inc();
    }
}

pub fn register(registry: &mut Registry, shared: Arc<Shared>, quota_bytes: u64) {
    let gauges = shared.gauges.clone();
    registry.register(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL",
        gauges.syncs.0.clone(),
    );
    registry.register(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend",
        gauges.checkpoints.0.clone(),
    );
    registry.register(
        "grpc_server_handled",
        "Total number of RPCs completed on the server, regardless of success or failure",
        gauges.handled.clone(),
    );
    registry.register_collector(Box::new(Scrape { shared, quota_bytes }));
}

struct Scrape {
    shared: Arc<Shared>,
    quota_bytes: u64,
}

impl std::fmt::Debug for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

/// Name, help and value of every gauge that is read off the state.
type Gauge = (&'static str, &'static str, i64);

impl Scrape {
    fn raft(&self) -> Vec<Gauge> {
        let status = &self.shared.status;
        let leads = status.leader() == self.shared.member_id;
        vec![
            ("etcd_server_has_leader", "Whether or not a leader exists", i64::from(status.leader() != 0)),
            ("etcd_server_is_leader", "Whether or not this member is a leader", i64::from(leads)),
            (
                "etcd_server_proposals_committed_total",
                "The total number of consensus proposals committed",
                signed(status.committed()),
            ),
            (
                "etcd_server_proposals_applied_total",
                "The total number of consensus proposals applied",
                signed(status.applied()),
            ),
            (
                "etcd_server_proposals_pending",
                "The current number of pending proposals to commit",
                count(status.pending()),
            ),
            (
                "etcd_server_quota_backend_bytes",
                "Current backend storage quota size in bytes",
                signed(self.quota_bytes),
            ),
        ]
    }

    fn mvcc(&self) -> Vec<Gauge> {
        let state = self.shared.state.read();
        let kv = &state.kv;
        vec![
            ("etcd_debugging_mvcc_keys_total", "Total number of keys", count(kv.live_keys())),
            ("etcd_debugging_mvcc_current_revision", "The current revision of store", kv.revision()),
            ("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store", kv.compacted()),
            ("etcd_debugging_mvcc_watcher_total", "Total number of watchers", count(self.shared.hub.watchers())),
            (
                "etcd_debugging_mvcc_watch_stream_total",
                "Total number of watch streams",
                count(self.shared.hub.streams()),
            ),
            ("etcd_debugging_auth_revision", "The current revision of auth store", signed(state.auth.revision())),
            ("etcd_debugging_lease_total", "Number of leases", count(kv.leases().len())),
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Total size of the underlying database physically allocated in bytes",
                signed(self.shared.gauges.disk_bytes()),
            ),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Total size of the underlying database logically in use in bytes",
                count(kv.size_bytes()),
            ),
        ]
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in self.raft().into_iter().chain(self.mvcc()) {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let changes = ConstCounter::new(self.shared.status.leader_changes());
        let help = "The number of leader changes seen";
        let kind = changes.metric_type();
        changes.encode(encoder.encode_descriptor("etcd_server_leader_changes_seen", help, None, kind)?)?;
        let mut version = encoder.encode_descriptor(
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        ConstGauge::new(1_i64).encode(version.encode_family(&[("server_version", ETCD_VERSION)])?)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
