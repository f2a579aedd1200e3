//! Builds the controllers, starts the informers, and runs everything until leadership ends.

use std::sync::Arc;
use std::time::Duration;

use client::Recorder;
use client::kube::Client;
use daemon::CancellationToken;
use daemon::health::Health;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::controllers::{Built, GARBAGE_COLLECTOR, NAMESPACE, Row, Setup, TABLE};
use crate::discovery::{Discovered, discover};
use crate::executor::Executor;
use crate::expectations::Expectations;
use crate::flags::Flags;
use crate::garbage::Collector;
use crate::index::Indexes;
use crate::informers::{Caches, Informers, Pending};
use crate::namespace::{self, Namespaces};
use crate::work::{Metrics, Runner, Work};

/// Discovery is asked again after this, doubling while nothing changes; a new CustomResourceDefinition asks at once.
const FIRST_RECHECK: Duration = Duration::from_secs(10);
const LONGEST_RECHECK: Duration = Duration::from_secs(300);

pub struct Manager {
    client: Client,
    flags: Arc<Flags>,
    metrics: Metrics,
}

/// All controllers by name and alias.
pub fn names() -> Vec<(&'static str, &'static str)> {
    TABLE.iter().map(|row| (row.name, row.alias)).chain([NAMESPACE, GARBAGE_COLLECTOR]).collect()
}

impl Manager {
    pub fn new(client: Client, flags: Arc<Flags>, health: &Health) -> Self {
        let metrics = Metrics::register(health.metrics());
        Self { client, flags, metrics }
    }

    fn executor(&self, component: &str) -> Executor {
        Executor::new(self.client.clone(), Recorder::new(self.client.clone(), component, None))
    }

    /// Works until the token is cancelled; what is under way is completed.
    pub async fn run(self, token: CancellationToken) {
        let mut informers = Informers::default();
        let indexes = Indexes::follow(&mut informers);
        let caches = informers.caches();
        let built = self.build(&mut informers, &caches, &indexes);
        let namespaces = self.build_namespaces(&mut informers, &caches);
        let rediscover = Arc::new(Notify::new());
        let collector = self.build_collector(&rediscover);
        let mut pending = informers.into_pending();
        let Some(discovered) = self.first_discovery(&token).await else { return };
        let started = pending.start_served(|kind| discovered.serves(kind), &self.client, &token);
        tracing::info!(informers = started.len(), not_served = ?pending.kinds(), "informers started");
        if let Some(collector) = &collector {
            collector.follow(discovered, &token);
        }
        let synced = futures::future::join_all(started);
        tokio::select! { _ = synced => {}, () = token.cancelled() => return }
        let mut tasks = JoinSet::new();
        self.spawn_all(built, &caches, &token, &mut tasks);
        if let Some((work, namespaces)) = namespaces {
            let (workers, token) = (self.flags.concurrent_namespace_syncs, token.clone());
            tasks.spawn(async move { work.run(workers, &token, move |key| namespaces.clone().sync(key)).await });
        }
        if let Some(collector) = collector.clone() {
            tasks.spawn(collect(collector, self.flags.concurrent_gc_syncs, token.clone()));
        }
        tasks.spawn(recheck(self.client.clone(), pending, collector, rediscover, token.clone()));
        tracing::info!("controllers running");
        while tasks.join_next().await.is_some() {}
    }

    fn build(&self, informers: &mut Informers, caches: &Caches, indexes: &Indexes) -> Vec<(&'static Row, Built)> {
        let mut setup = Setup {
            informers,
            caches: caches.clone(),
            indexes: indexes.clone(),
            flags: &self.flags,
            metrics: &self.metrics,
        };
        let enabled = TABLE.iter().filter(|row| self.flags.enables(row.name, row.alias));
        enabled.map(|row| (row, (row.build)(&mut setup))).collect()
    }

    fn build_namespaces(&self, informers: &mut Informers, caches: &Caches) -> Option<(Work, Arc<Namespaces>)> {
        self.flags.enables(NAMESPACE.0, NAMESPACE.1).then(|| {
            let work = Work::new("namespace", &self.metrics);
            namespace::watch(informers, caches, &work);
            let executor = self.executor(NAMESPACE.0);
            (work, Arc::new(Namespaces { executor, caches: caches.clone() }))
        })
    }

    fn build_collector(&self, rediscover: &Arc<Notify>) -> Option<Arc<Collector>> {
        let enabled =
            self.flags.enable_garbage_collector && self.flags.enables(GARBAGE_COLLECTOR.0, GARBAGE_COLLECTOR.1);
        enabled.then(|| {
            let work = Work::new("garbage_collector_attempt_to_delete", &self.metrics);
            Collector::new(self.executor(GARBAGE_COLLECTOR.0), work, rediscover.clone())
        })
    }

    fn spawn_all(
        &self,
        built: Vec<(&'static Row, Built)>,
        caches: &Caches,
        token: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        for (row, Built { work, workers, controller }) in built {
            let runner = Arc::new(Runner {
                name: row.name,
                controller,
                executor: self.executor(row.component),
                caches: caches.clone(),
                expectations: Expectations::default(),
                failures: Default::default(),
            });
            let token = token.clone();
            tasks.spawn(async move {
                let sync = move |key| {
                    let runner = runner.clone();
                    async move { runner.sync(key).await }
                };
                work.run(workers, &token, sync).await;
            });
        }
    }

    /// The API server may not be there yet.
    async fn first_discovery(&self, token: &CancellationToken) -> Option<Discovered> {
        let mut wait = Duration::from_millis(100);
        loop {
            match discover(&self.client).await {
                Ok(discovered) => return Some(discovered),
                Err(error) => tracing::warn!(%error, "cannot discover the API; will try again"),
            }
            tokio::select! { () = token.cancelled() => return None, () = tokio::time::sleep(wait) => {} }
            wait = (wait * 2).min(FIRST_RECHECK);
        }
    }
}

async fn collect(collector: Arc<Collector>, workers: usize, token: CancellationToken) {
    tokio::select! { () = collector.synced() => {}, () = token.cancelled() => return }
    let work = collector.work().clone();
    work.run(workers, &token, move |uid| collector.clone().sync(uid)).await;
}

/// Starts what was not served at first, and has new kinds collected.
async fn recheck(
    client: Client,
    mut pending: Pending,
    collector: Option<Arc<Collector>>,
    rediscover: Arc<Notify>,
    token: CancellationToken,
) {
    let (mut wait, mut known) = (FIRST_RECHECK, 0);
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = rediscover.notified() => wait = FIRST_RECHECK,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_RECHECK),
        }
        let discovered = match discover(&client).await {
            Ok(discovered) => discovered,
            Err(error) => {
                tracing::debug!(%error, "cannot discover the API");
                continue;
            }
        };
        if discovered.kinds.len() != known {
            (known, wait) = (discovered.kinds.len(), FIRST_RECHECK);
        }
        for started in pending.start_served(|kind| discovered.serves(kind), &client, &token) {
            tokio::spawn(started);
        }
        if let Some(collector) = &collector {
            collector.follow(discovered, &token);
        }
    }
}
