//! The scheduler's metrics, under upstream's names.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use daemon::metrics::Metrics as Registry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::core::Core;
use crate::queue::{Place, Queue, Taken};
use crate::scheduler::Shared;

type Labels<const N: usize> = [(&'static str, String); N];

/// Cheap to clone: every clone counts into the same metrics.
#[derive(Clone)]
pub struct Metrics {
    attempts: Family<Labels<2>, Counter>,
    attempt_duration: Family<Labels<2>, Histogram>,
    algorithm_duration: Histogram,
    sli_duration: Family<Labels<1>, Histogram>,
    attempts_per_pod: Histogram,
    preemption_attempts: Counter,
    preemption_victims: Histogram,
    pending: Family<Labels<1>, Gauge>,
    incoming: Family<Labels<2>, Counter>,
    cache_size: Family<Labels<1>, Gauge>,
    unschedulable: Family<Labels<2>, Gauge>,
}

fn attempt_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn sli_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

impl Metrics {
    /// Registered without `_total`: the encoder adds it to counters.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Metrics {
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(attempt_buckets),
            algorithm_duration: attempt_buckets(),
            sli_duration: Family::new_with_constructor(sli_buckets),
            attempts_per_pod: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            preemption_attempts: Counter::default(),
            preemption_victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            pending: Family::default(),
            incoming: Family::default(),
            cache_size: Family::default(),
            unschedulable: Family::default(),
        };
        metrics.register(registry);
        metrics
    }

    #[rustfmt::skip]
    fn register(&self, registry: &Registry) {
        registry.register(|r| {
            let r = r.sub_registry_with_prefix("scheduler");
            r.register("schedule_attempts", "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem", self.attempts.clone());
            r.register("scheduling_attempt_duration_seconds", "Scheduling attempt latency in seconds (scheduling algorithm + binding)", self.attempt_duration.clone());
            r.register("scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", self.algorithm_duration.clone());
            r.register("pod_scheduling_sli_duration_seconds", "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue", self.sli_duration.clone());
            r.register("pod_scheduling_attempts", "Number of attempts to successfully schedule a pod", self.attempts_per_pod.clone());
            r.register("preemption_attempts", "Total preemption attempts in the cluster till now", self.preemption_attempts.clone());
            r.register("preemption_victims", "Number of selected preemption victims", self.preemption_victims.clone());
            r.register("pending_pods", "Number of pending pods, by the queue type", self.pending.clone());
            r.register("queue_incoming_pods", "Number of pods added to scheduling queues by event and queue type", self.incoming.clone());
        });
    }

    pub fn attempt(&self, result: &str, profile: &str, elapsed: Duration) {
        let labels = [("result", result.to_owned()), ("profile", profile.to_owned())];
        self.attempts.get_or_create(&labels).inc();
        self.attempt_duration.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    pub fn algorithm(&self, elapsed: Duration) {
        self.algorithm_duration.observe(elapsed.as_secs_f64());
    }

    pub fn scheduled(&self, taken: &Taken, now: Instant) {
        self.attempts_per_pod.observe(f64::from(taken.attempts));
        let attempts = [("attempts", taken.attempts.to_string())];
        self.sli_duration.get_or_create(&attempts).observe((now - taken.since).as_secs_f64());
    }

    pub fn preemption(&self, victims: usize) {
        self.preemption_attempts.inc();
        if victims > 0 {
            self.preemption_victims.observe(victims as f64);
        }
    }

    /// Pods that entered a queue because of `event`.
    pub fn woken(&self, event: &str, places: &[Place]) {
        for place in places {
            let labels = [("queue", queue_name(*place).to_owned()), ("event", event.to_owned())];
            self.incoming.get_or_create(&labels).inc();
        }
    }

    pub fn queue(&self, queue: &Queue) {
        for place in [Place::Active, Place::Backoff, Place::Unschedulable, Place::Gated] {
            let gauge = self.pending.get_or_create(&[("queue", queue_name(place).to_owned())]);
            gauge.set(queue.count(place) as i64);
        }
    }

    /// Adds what is counted only when somebody looks.
    pub fn collect_from(&self, registry: &Registry, shared: &Arc<Shared>) {
        let collector = Box::new(Counted { metrics: self.clone(), shared: Arc::downgrade(shared) });
        registry.register(|r| r.register_collector(collector));
    }

    fn refresh(&self, core: &Core) {
        let (nodes, pods, assumed) = core.cache_sizes();
        for (kind, count) in [("nodes", nodes), ("pods", pods), ("assumed_pods", assumed)] {
            self.cache_size.get_or_create(&[("type", kind.to_owned())]).set(count as i64);
        }
        self.unschedulable.clear();
        for ((plugin, profile), count) in core.unschedulable() {
            let labels = [("plugin", plugin.to_owned()), ("profile", profile.to_string())];
            self.unschedulable.get_or_create(&labels).set(count);
        }
    }
}

struct Counted {
    metrics: Metrics,
    shared: Weak<Shared>,
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };
        self.metrics.refresh(&shared.core.lock());
        let help = "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.";
        let family = &self.metrics.cache_size;
        family.encode(encoder.encode_descriptor("scheduler_cache_size", help, None, family.metric_type())?)?;
        let help = "The number of unschedulable pods broken down by plugin name.";
        let family = &self.metrics.unschedulable;
        family.encode(encoder.encode_descriptor("scheduler_unschedulable_pods", help, None, family.metric_type())?)
    }
}

fn queue_name(place: Place) -> &'static str {
    match place {
        Place::Active | Place::InFlight => "active",
        Place::Backoff => "backoff",
        Place::Unschedulable => "unschedulable",
        Place::Gated => "gated",
    }
}
