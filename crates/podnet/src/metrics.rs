//! Metrics of kube-podnet.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone)]
pub struct Metrics {
    pub sync_duration: Histogram,
    pub sync_errors: Counter,
    pub routes: Gauge,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            sync_duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            sync_errors: Counter::default(),
            routes: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("kubepodnet");
        let help = "Time to bring this node's pod network about";
        registry.register("sync_duration_seconds", help, metrics.sync_duration.clone());
        registry.register("sync_errors", "Failed attempts to do so", metrics.sync_errors.clone());
        registry.register("routes", "Routes to other nodes' pods that are wanted", metrics.routes.clone());
        metrics
    }
}
