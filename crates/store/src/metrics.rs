//! What `/metrics` tells, under etcd's names where the meaning is etcd's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

mod calls;
mod peers;

pub use calls::{Calls, Counted};
pub use peers::{PeerTraffic, ToPeer};

use crate::config::{CLUSTER_VERSION, ETCD_VERSION};
use crate::convert;
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::response_op::Response;
use crate::raft_node::Answer;
use crate::shared::Shared;
use crate::state::Outcome;

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

/// What is counted where it happens; the rest is read off the state when asked for.
#[derive(Debug, Default)]
pub struct Gauges {
    pub syncs: Durations,
    /// What is under way on the disk of the log, and on that of the checkpoint.
    pub log_disk: UnderWay,
    pub checkpoint_disk: UnderWay,
    pub checkpoints: Durations,
    pub calls: Calls,
    pub peers: PeerTraffic,
    pub hashes: Durations,
    pub hashes_of_a_revision: Durations,
    pub defragmentations: Durations,
    pub snapshots: Durations,
    pub promotions: Counter,
    /// Snapshots of the leader that are being written down.
    pub installing: AtomicU64,
    pub clients: Traffic,
    pub operations: Operations,
    pub leases: Leases,
    pub failed_proposals: Counter,
    pub failed_reads: Counter,
    pub slow_reads: Counter,
    pub slow_applies: Counter,
    pub unsent_heartbeats: Counter,
    pub health_successes: Counter,
    pub health_failures: Counter,
    disk_bytes: AtomicU64,
    log_bytes: AtomicU64,
}

/// What goes over the connections of a port, in both directions.
#[derive(Debug, Default, Clone)]
pub struct Traffic {
    pub received: Counter,
    pub sent: Counter,
}

/// What was done to keys.
#[derive(Debug, Default)]
pub struct Operations {
    pub ranges: Counter,
    puts: Counter,
    deletes: Counter,
    txns: Counter,
}

/// What became of leases.
#[derive(Debug, Default)]
pub struct Leases {
    granted: Counter,
    revoked: Counter,
    pub renewed: Counter,
    pub expired: Counter,
}

impl Operations {
    /// Of those that a transaction did each counts, and the transaction if there were several.
    pub fn count_txn(&self, txn: &pb::TxnResponse) {
        if self.count_nested(txn) > 1 {
            self.txns.inc();
        }
    }

    fn count_nested(&self, txn: &pb::TxnResponse) -> usize {
        let count = |op: &pb::ResponseOp| {
            let counter = match &op.response {
                Some(Response::ResponseTxn(txn)) => return self.count_nested(txn),
                Some(Response::ResponseRange(_)) => &self.ranges,
                Some(Response::ResponsePut(_)) => &self.puts,
                Some(Response::ResponseDeleteRange(_)) => &self.deletes,
                None => return 0,
            };
            counter.inc();
            1
        };
        txn.responses.iter().map(count).sum()
    }
}

/// Something that a disk is given to do, and how long it may take.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<Option<(Instant, Duration)>>);

impl UnderWay {
    pub fn during<T>(&self, may_take: Duration, work: impl FnOnce() -> T) -> T {
        *self.0.lock() = Some((Instant::now(), may_take));
        let done = work();
        *self.0.lock() = None;
        done
    }

    /// For how long it has been under way, if that is too long.
    fn overdue(&self) -> Option<Duration> {
        let (since, may_take) = (*self.0.lock())?;
        Some(since.elapsed()).filter(|took| *took >= may_take)
    }
}

impl Gauges {
    /// What it does not write and for how long, if the disk hangs.
    pub fn disk_hung(&self) -> Option<(&'static str, Duration)> {
        let disks = [("log", &self.log_disk), ("checkpoint", &self.checkpoint_disk)];
        disks.into_iter().find_map(|(what, disk)| Some((what, disk.overdue()?)))
    }

    /// What an entry of the log did.
    pub fn count_outcome(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Txn(txn) => return self.operations.count_txn(txn),
            Outcome::Put(_) => &self.operations.puts,
            Outcome::DeleteRange(_) => &self.operations.deletes,
            Outcome::LeaseGrant(_) => &self.leases.granted,
            Outcome::LeaseRevoke(_) => &self.leases.revoked,
            _ => return,
        };
        counter.inc();
    }

    /// Refused for what the request asks is no failure of the cluster.
    pub fn count_proposal(&self, answer: &Answer) {
        use Refusal::{LeaderTransferTimedOut, NoLeader, Stopped, TimedOut, TooManyRequests};
        let failed = [LeaderTransferTimedOut, NoLeader, Stopped, TimedOut, TooManyRequests];
        if answer.as_ref().is_err_and(|refusal| failed.contains(refusal)) {
            self.failed_proposals.inc();
        }
    }

    pub fn count_read(&self, read: Result<(), Refusal>) {
        match read {
            Ok(()) => {}
            Err(Refusal::TimedOut) => _ = self.slow_reads.inc(),
            Err(_) => _ = self.failed_reads.inc(),
        }
    }

    pub fn set_log_bytes(&self, bytes: u64) {
        self.log_bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn set_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
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
    for (name, help, durations) in [
        ("etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation", &gauges.hashes),
        (
            "etcd_mvcc_hash_rev_duration_seconds",
            "The latency distribution of storage hash by revision operation",
            &gauges.hashes_of_a_revision,
        ),
        (
            "etcd_disk_backend_defrag_duration_seconds",
            "The latency distribution of backend defragmentation",
            &gauges.defragmentations,
        ),
        (
            "etcd_disk_backend_snapshot_duration_seconds",
            "The latency distribution of backend snapshots",
            &gauges.snapshots,
        ),
    ] {
        registry.register(name, help, durations.0.clone());
    }
    gauges.calls.register(registry);
    gauges.peers.register(registry);
    for (name, help, counter) in counters(&gauges) {
        registry.register(name, help, counter.clone());
    }
    registry.register_collector(Box::new(Scrape { shared, quota_bytes }));
}

/// Names without `_total`, which is added where they are printed.
fn counters(gauges: &Gauges) -> [(&'static str, &'static str, &Counter); 15] {
    let Gauges { clients, operations, leases, .. } = gauges;
    [
        (
            "etcd_network_client_grpc_received_bytes",
            "The total number of bytes received from grpc clients",
            &clients.received,
        ),
        ("etcd_network_client_grpc_sent_bytes", "The total number of bytes sent to grpc clients", &clients.sent),
        ("etcd_mvcc_range", "Total number of ranges seen by this member", &operations.ranges),
        ("etcd_mvcc_put", "Total number of puts seen by this member", &operations.puts),
        ("etcd_mvcc_delete", "Total number of deletes seen by this member", &operations.deletes),
        ("etcd_mvcc_txn", "Total number of txns seen by this member", &operations.txns),
        ("etcd_debugging_lease_granted", "The total number of granted leases", &leases.granted),
        ("etcd_debugging_lease_revoked", "The total number of revoked leases", &leases.revoked),
        ("etcd_debugging_lease_renewed", "The number of renewed leases seen by the leader", &leases.renewed),
        ("etcd_debugging_server_lease_expired", "The total number of expired leases", &leases.expired),
        ("etcd_server_proposals_failed", "The total number of failed proposals seen", &gauges.failed_proposals),
        ("etcd_server_read_indexes_failed", "The total number of failed read indexes seen", &gauges.failed_reads),
        ("etcd_server_slow_read_indexes", "The total number of read indexes that timed out", &gauges.slow_reads),
        ("etcd_server_slow_apply", "The total number of slow apply requests", &gauges.slow_applies),
        (
            "etcd_server_heartbeat_send_failures",
            "The total number of heartbeats that a peer's queue had no room for",
            &gauges.unsent_heartbeats,
        ),
    ]
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
            ("etcd_server_is_learner", "Whether or not this member is a learner", i64::from(self.is_learner())),
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
            (
                "etcd_server_snapshot_apply_in_progress_total",
                "1 if the server is applying the incoming snapshot. 0 if none",
                signed(self.shared.gauges.installing.load(Ordering::Relaxed)),
            ),
            ("os_fd_used", "The number of used file descriptors", open_files()),
            ("os_fd_limit", "The file descriptor limit", file_limit()),
            // Counters whose names end without `_total`.
            (
                "etcd_server_learner_promote_successes",
                "The total number of successful learner promotions while this member is leader",
                signed(self.shared.gauges.promotions.get()),
            ),
            (
                "etcd_server_health_success",
                "The total number of successful health checks",
                signed(self.shared.gauges.health_successes.get()),
            ),
            (
                "etcd_server_health_failures",
                "The total number of failed health checks",
                signed(self.shared.gauges.health_failures.get()),
            ),
            (
                "etcd_disk_wal_write_bytes_total",
                "Total number of bytes written in WAL",
                signed(self.shared.gauges.log_bytes.load(Ordering::Relaxed)),
            ),
        ]
    }

    fn is_learner(&self) -> bool {
        self.shared.state.read().members.get(&self.shared.member_id).is_some_and(|member| member.is_learner)
    }

    /// Facts that are told by a label: name, help, label and its value.
    fn labels(&self) -> [(&'static str, &'static str, &'static str, String); 3] {
        let cluster = CLUSTER_VERSION.rsplit_once('.').map_or(CLUSTER_VERSION, |(minor, _)| minor);
        [
            (
                "etcd_server_version",
                "Which version is running. 1 for 'server_version' label with current version",
                "server_version",
                ETCD_VERSION.to_owned(),
            ),
            (
                "etcd_cluster_version",
                "Which version is running. 1 for 'cluster_version' label with current cluster version",
                "cluster_version",
                cluster.to_owned(),
            ),
            (
                "etcd_server_id",
                "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID",
                "server_id",
                format!("{:x}", self.shared.member_id),
            ),
        ]
    }

    fn mvcc(&self) -> Vec<Gauge> {
        let state = self.shared.state.read();
        let kv = &state.kv;
        let compacted = convert::compact_revision(kv.compacted());
        vec![
            ("etcd_debugging_mvcc_keys_total", "Total number of keys", count(kv.live_keys())),
            ("etcd_debugging_mvcc_current_revision", "The current revision of store", kv.revision()),
            ("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store", compacted),
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
        for (name, help, label, value) in self.labels() {
            let kind = prometheus_client::metrics::MetricType::Gauge;
            let mut fact = encoder.encode_descriptor(name, help, None, kind)?;
            ConstGauge::new(1_i64).encode(fact.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }
}

fn open_files() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| count(files.count()))
}

fn file_limit() -> i64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| signed(soft))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
