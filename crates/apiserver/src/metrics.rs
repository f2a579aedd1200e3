//! What the server counts, under upstream's names.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use api::table::Resource;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::http::info::RequestInfo;

const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 3.0, 10.0, 60.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    request_kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatcherLabels {
    group: String,
    version: String,
    kind: String,
}

type Seconds = Family<RequestLabels, Histogram, fn() -> Histogram>;
type Level = Gauge<i64, AtomicI64>;

pub struct Metrics {
    requests: Family<CodeLabels, Counter>,
    duration: Seconds,
    inflight: Family<KindLabels, Level>,
    watchers: Family<WatcherLabels, Level>,
}

impl Metrics {
    pub fn register(registry: &daemon::metrics::Metrics) -> Self {
        let this = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            inflight: Family::default(),
            watchers: Family::default(),
        };
        registry.register(|r| {
            // The exposition adds `_total`.
            r.register("apiserver_request", "Counter of apiserver requests broken out for each verb, group, version, resource, scope, component, and HTTP response code", this.requests.clone());
            r.register("apiserver_request_duration_seconds", "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component", this.duration.clone());
            r.register("apiserver_current_inflight_requests", "Maximal number of currently used inflight request limit of this apiserver per request kind in last second", this.inflight.clone());
            r.register("apiserver_registered_watchers", "Number of currently registered watchers for a given resources", this.watchers.clone());
        });
        this
    }

    pub fn request(&self, info: &RequestInfo, code: u16, took: Duration) {
        let scope = match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
            (false, _, _) => "",
            (true, false, _) => "resource",
            (true, true, false) => "namespace",
            (true, true, true) => "cluster",
        };
        let verb = match info.verb.as_str() {
            "create" => "POST".to_owned(),
            "update" => "PUT".to_owned(),
            other => other.to_ascii_uppercase(),
        };
        let labels = RequestLabels {
            verb,
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            scope: scope.to_owned(),
        };
        if info.verb != "watch" {
            self.duration.get_or_create(&labels).observe(took.as_secs_f64());
        }
        let RequestLabels { verb, group, version, resource, subresource, scope } = labels;
        self.requests.get_or_create(&CodeLabels { verb, group, version, resource, subresource, scope, code }).inc();
    }

    pub fn inflight(&self, kind: &str, count: usize) {
        let labels = KindLabels { request_kind: kind.to_owned() };
        self.inflight.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a watcher for as long as the guard lives.
    pub fn watcher(&self, row: &Arc<Resource>) -> WatcherCount {
        let labels = WatcherLabels {
            group: row.group.to_string(),
            version: row.version.to_string(),
            kind: row.kind.to_string(),
        };
        let level = self.watchers.get_or_create(&labels).clone();
        level.inc();
        WatcherCount(level)
    }
}

pub struct WatcherCount(Level);

impl Drop for WatcherCount {
    fn drop(&mut self) {
        self.0.dec();
    }
}
