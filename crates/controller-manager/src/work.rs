//! Runs a controller: a queue of keys, workers that plan and execute, and the metrics of both.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::queue::Outcome;
use client::{Change, Key, Queue};
use controllers::meta::Meta;
use controllers::{Failure, Plan};
use daemon::CancellationToken;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::executor::{Error, Executor};
use crate::expectations::Expectations;
use crate::informers::{Caches, Feed, Object};

/// How soon to look again whether the caches caught up; their events usually are sooner.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A controller whose work is a pure plan.
pub trait Controller: Send + Sync + 'static {
    fn plan(&self, key: &Key, failure: Option<&Failure>, now: Timestamp) -> Plan;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

/// Upstream's `workqueue_*`.
#[derive(Clone)]
pub struct Metrics {
    depth: Family<Name, Gauge>,
    adds: Family<Name, Counter>,
    retries: Family<Name, Counter>,
    duration: Family<Name, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub fn register(metrics: &daemon::metrics::Metrics) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(1e-6, 10.0, 9));
        let this = Self {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            duration: Family::new_with_constructor(buckets),
        };
        metrics.register(|registry| {
            registry.register("workqueue_depth", "Current depth of workqueue", this.depth.clone());
            registry.register("workqueue_adds", "Total number of adds handled by workqueue", this.adds.clone());
            registry.register(
                "workqueue_retries",
                "Total number of retries handled by workqueue",
                this.retries.clone(),
            );
            let help = "How long in seconds processing an item from workqueue takes.";
            registry.register("workqueue_work_duration_seconds", help, this.duration.clone());
        });
        this
    }
}

/// A queue with its metrics; cheap to clone.
#[derive(Clone)]
pub struct Work {
    pub queue: Queue<Key>,
    depth: Gauge,
    adds: Counter,
    retries: Counter,
    duration: Histogram,
}

impl Work {
    pub fn new(name: &'static str, metrics: &Metrics) -> Self {
        let name = Name { name };
        Self {
            queue: Queue::new(),
            depth: metrics.depth.get_or_create_owned(&name),
            adds: metrics.adds.get_or_create_owned(&name),
            retries: metrics.retries.get_or_create_owned(&name),
            duration: metrics.duration.get_or_create_owned(&name),
        }
    }

    pub fn add(&self, key: Key) {
        self.adds.inc();
        self.queue.add(key);
        self.measure();
    }

    pub fn add_after(&self, key: Key, delay: Duration) {
        self.adds.inc();
        self.queue.add_after(key, delay);
    }

    fn measure(&self) {
        self.depth.set(i64::try_from(self.queue.depth()).unwrap_or(i64::MAX));
    }

    /// Works with `workers` tasks until the token is cancelled.
    pub async fn run<F, Fut>(&self, workers: usize, token: &CancellationToken, sync: F)
    where
        F: Fn(Key) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send,
    {
        let this = self.clone();
        let timed = move |key: Key| {
            let (this, sync) = (this.clone(), sync.clone());
            async move {
                this.measure();
                let started = Instant::now();
                let outcome = sync(key).await;
                this.duration.observe(started.elapsed().as_secs_f64());
                if outcome == Outcome::Retry {
                    this.retries.inc();
                }
                outcome
            }
        };
        self.queue.run(workers, token, timed).await;
    }

    /// Every change of an object wakes the object itself.
    pub fn on_self<K: Object>(&self, feed: &mut Feed<K>) {
        let work = self.clone();
        feed.on_change(move |change| work.add(Key::of(change.object().as_ref())));
    }

    /// Changes of what an `O` controls wake that `O`; when it changes hands, both.
    pub fn on_owned<O: Object, K: Object>(&self, feed: &mut Feed<K>) {
        let work = self.clone();
        feed.on_change(move |change| {
            let new = owner_key::<O, K>(change.object());
            if let Change::Updated { old, .. } = change
                && let Some(old) = owner_key::<O, K>(old)
                && Some(&old) != new.as_ref()
            {
                work.add(old);
            }
            new.into_iter().for_each(|key| work.add(key));
        });
    }

    /// An object without a controller wakes everyone who might adopt it.
    pub fn on_orphan<K: Object>(&self, feed: &mut Feed<K>, adopters: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static) {
        let work = self.clone();
        feed.on_change(move |change| {
            let object = change.object();
            let changed = match change {
                Change::Added(_) => true,
                Change::Updated { old, new } => {
                    old.meta().labels != new.meta().labels || old.meta().owner_references != new.meta().owner_references
                }
                Change::Deleted(_) => false,
            };
            if changed && object.controller().is_none() {
                adopters(object).into_iter().for_each(|key| work.add(key));
            }
        });
    }
}

/// The key of the `O` that controls `object`.
pub fn owner_key<O: Object, K: Object>(object: &K) -> Option<Key> {
    let owner = object.controller()?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    (owner.kind == O::KIND && group == O::GROUP).then(|| Key::new(object.namespace(), &owner.name))
}

/// Plans and executes for the keys of one controller.
pub struct Runner {
    pub name: &'static str,
    pub controller: Arc<dyn Controller>,
    pub executor: Executor,
    pub caches: Caches,
    pub expectations: Expectations,
    pub failures: Mutex<HashMap<Key, Failure>>,
}

impl Runner {
    pub async fn sync(&self, key: Key) -> Outcome {
        let visible = |write: &crate::expectations::Written| match self.caches.seen(&write.kind, &write.key) {
            Some((found, newest)) => write.is_visible(found.as_ref(), newest),
            None => true,
        };
        if !self.expectations.satisfied(&key, visible) {
            return Outcome::After(CATCH_UP);
        }
        let failure = self.failures.lock().get(&key).cloned();
        let plan = self.controller.plan(&key, failure.as_ref(), Timestamp::now());
        let done = self.executor.execute(&plan).await;
        self.expectations.expect(&key, done.written);
        match done.error {
            None => {
                self.failures.lock().remove(&key);
                plan.requeue_after.map_or(Outcome::Done, Outcome::After)
            }
            Some(error) => self.failed(key, &error),
        }
    }

    fn failed(&self, key: Key, error: &Error) -> Outcome {
        if error.is_pointless() {
            return Outcome::Done;
        }
        match error {
            Error::Conflict { .. } | Error::OwnerGone { .. } | Error::OwnerBack { .. } => {
                tracing::debug!(controller = self.name, %key, %error, "will try again");
            }
            _ => tracing::warn!(controller = self.name, %key, error = ?error, "sync failed"),
        }
        if let Some(failure) = error.failure() {
            self.failures.lock().insert(key, failure);
        }
        Outcome::Retry
    }
}
