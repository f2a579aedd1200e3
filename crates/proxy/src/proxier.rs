//! The loop that carries rules into the kernel, one per IP family.
//!
//! Changes only mark the model and wake the loop; a sync takes up all that came since the last one, at most one per
//! minimum sync period, the first at once. After a failure, when a canary is gone, and once an hour, everything is
//! written anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netfilter::iptables::Error;
use netfilter::{Iptables, conntrack};
use parking_lot::Mutex;
use proxyrules::{CANARY_CHAIN, CANARY_TABLES, Model, Observed, ServiceKey, SliceKey, StaleFlow, Sync};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cleanup::iptables;
use crate::health::ProxyHealth;
use crate::metrics::FamilyMetrics;
use crate::service_health::ServiceHealth;

/// Foreign software may have removed our jumps while it left the canaries.
const FULL_SYNC_PERIOD: Duration = Duration::from_secs(3600);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Trigger times kept for the latency metric between two syncs; more are not measured.
const MAX_TRIGGERS: usize = 1000;
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// How often the loop may and must run.
#[derive(Debug, Clone, Copy)]
pub struct Periods {
    pub min_sync: Duration,
    pub canary: Duration,
}

pub struct Proxier {
    model: Mutex<Model>,
    wake: Notify,
    full_wanted: AtomicBool,
    triggers: Mutex<Vec<Timestamp>>,
    iptables: Iptables,
    periods: Periods,
    health: Arc<ProxyHealth>,
    metrics: FamilyMetrics,
}

impl Proxier {
    pub fn new(config: proxyrules::Config, periods: Periods, health: Arc<ProxyHealth>, metrics: FamilyMetrics) -> Self {
        Self {
            iptables: iptables(config.family),
            model: Mutex::new(Model::new(config)),
            wake: Notify::new(),
            full_wanted: AtomicBool::new(true),
            triggers: Mutex::default(),
            periods,
            health,
            metrics,
        }
    }

    pub fn service_changed(&self, key: &ServiceKey, service: Option<&Service>) {
        self.metrics.service_changed();
        self.change(|model| match service {
            Some(service) => model.apply_service(service),
            None => model.delete_service(key),
        });
    }

    pub fn slice_changed(&self, slice: &EndpointSlice, deleted: bool) {
        self.metrics.endpoints_changed();
        self.note_trigger(slice);
        self.change(|model| if deleted { model.delete_slice(&SliceKey::of(slice)) } else { model.apply_slice(slice) });
    }

    /// Takes over new facts of the node.
    pub fn node_changed(&self, config: proxyrules::Config) {
        if *self.model.lock().config() != config {
            self.model.lock().set_config(config);
            self.full_wanted.store(true, Ordering::Release);
            self.queue();
        }
    }

    fn change(&self, apply: impl FnOnce(&mut Model)) {
        let dirty = {
            let mut model = self.model.lock();
            apply(&mut model);
            model.is_dirty()
        };
        if dirty {
            self.queue();
        }
    }

    fn queue(&self) {
        let now = Timestamp::now();
        self.metrics.queued(now.as_second());
        self.health.queued(self.family(), now);
        self.wake.notify_one();
    }

    pub fn family(&self) -> proxyrules::Family {
        self.model.lock().config().family
    }

    fn note_trigger(&self, slice: &EndpointSlice) {
        let annotations = slice.metadata.annotations.as_ref();
        let Some(annotation) = annotations.and_then(|annotations| annotations.get(TRIGGER_ANNOTATION)) else { return };
        let mut triggers = self.triggers.lock();
        if triggers.len() < MAX_TRIGGERS {
            triggers.extend(annotation.parse::<Timestamp>());
        }
    }

    /// Runs until the token is cancelled; the rules stay.
    pub async fn run(&self, mut service_health: Option<ServiceHealth>, token: CancellationToken) {
        let mut failures = 0;
        let mut last_full = Instant::now();
        loop {
            let started = Instant::now();
            let full = self.full_wanted.swap(false, Ordering::AcqRel) || last_full.elapsed() >= FULL_SYNC_PERIOD;
            match self.sync(full, &mut service_health).await {
                Ok(()) => {
                    failures = 0;
                    last_full = if full { started } else { last_full };
                }
                Err(error) => {
                    failures += 1;
                    self.full_wanted.store(true, Ordering::Release);
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        full,
                        "cannot sync the rules; will retry"
                    );
                }
            }
            let next = async {
                self.woken(failures).await;
                tokio::time::sleep_until(started + self.periods.min_sync).await;
            };
            tokio::select! { () = token.cancelled() => return, () = next => {} }
        }
    }

    /// Returns when there is something to do.
    async fn woken(&self, failures: u32) {
        if failures > 0 {
            let delay = RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_MOST);
            return tokio::time::sleep(delay).await;
        }
        loop {
            tokio::select! {
                () = self.wake.notified() => return,
                () = tokio::time::sleep(self.periods.canary) => {}
            }
            match self.canaries_live().await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!("the rules have been flushed by somebody else: writing them again");
                    self.full_wanted.store(true, Ordering::Release);
                    return;
                }
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for the canary"),
            }
        }
    }

    async fn canaries_live(&self) -> Result<bool, Error> {
        for table in CANARY_TABLES {
            if !self.iptables.chain_exists(table.as_str(), CANARY_CHAIN).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn sync(&self, full: bool, service_health: &mut Option<ServiceHealth>) -> Result<(), Error> {
        let started = Instant::now();
        let observed = if full { Some(Observed::parse(&self.iptables.save().await?)) } else { None };
        let triggers = std::mem::take(&mut *self.triggers.lock());
        self.metrics.taken_up();
        let sync = {
            let mut model = self.model.lock();
            match &observed {
                Some(observed) => model.full_sync(observed),
                None => model.sync(),
            }
        };
        self.apply(&sync, full).await?;
        let now = Timestamp::now();
        self.report(&sync, started.elapsed(), full, now, &triggers);
        let ports: Vec<_> = {
            let model = self.model.lock();
            model.health_check_ports().map(|(key, check)| (key.clone(), check.clone())).collect()
        };
        if let Some(service_health) = service_health {
            service_health.sync(ports).await;
        }
        Ok(())
    }

    async fn apply(&self, sync: &Sync, full: bool) -> Result<(), Error> {
        if let Some(text) = &sync.restore {
            self.iptables.restore(text).await.inspect_err(|_| self.metrics.restore_failed(full))?;
        }
        conntrack::delete(&arguments(&sync.stale_flows)).await;
        if full {
            self.delete_entries_of_the_past().await;
        }
        Ok(())
    }

    async fn delete_entries_of_the_past(&self) {
        match conntrack::list_udp().await {
            Ok(listing) => {
                let stale = self.model.lock().stale_entries(&listing);
                conntrack::delete(&arguments(&stale)).await;
            }
            Err(error) => tracing::warn!(%error, "cannot list UDP flows: stale ones stay until they time out"),
        }
    }

    fn report(&self, sync: &Sync, took: Duration, full: bool, now: Timestamp, triggers: &[Timestamp]) {
        let model = self.model.lock();
        // What came in the meantime has woken the loop again.
        self.health.updated(model.config().family, now);
        self.metrics.synced(took, full, now.as_second());
        let Some(text) = &sync.restore else { return };
        let stats = model.stats();
        self.metrics.rules(model.rules(), text, &stats);
        for trigger in triggers {
            self.metrics.programmed(now.duration_since(*trigger).as_secs_f64().max(0.0));
        }
        let (ports, endpoints) = (stats.service_ports, stats.endpoints);
        tracing::debug!(full, bytes = text.len(), ports, endpoints, ?took, "synced the rules");
    }
}

fn arguments(flows: &[StaleFlow]) -> Vec<Vec<String>> {
    flows.iter().map(StaleFlow::conntrack_args).collect()
}
