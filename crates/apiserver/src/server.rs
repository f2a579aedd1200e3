//! Putting the server together: build from a validated configuration, run until stopped, drain.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon::CancellationToken;
use daemon::health::Health;
use daemon::tls::{self, ClientAuth, ReloadingCert};
use daemon::trust::ClientTrust;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::authn::service_account::Keys;
use crate::authz::{Rbac, reconcile};
use crate::cache::Caches;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::documents::Documents;
use crate::http::chain::Chain;
use crate::http::inflight::Inflight;
use crate::http::serve;
use crate::metrics::Metrics;
use crate::network::{Services, kubernetes};
use crate::proxy::{AnyCertificate, Backend};
use crate::rest::turns::Turns;
use crate::state::Api;
use crate::store::{self, Store};

const BOOTSTRAP_RETRY: Duration = Duration::from_secs(1);
/// How often the store is asked whether it is there, for the health checks.
const STORE_CHECK: Duration = Duration::from_secs(5);
/// And how often while it is not.
const STORE_RETRY: Duration = Duration::from_millis(100);

pub struct Server {
    api: Arc<Api>,
    tls: Arc<ServerConfig>,
    clients: Arc<ClientTrust>,
    tasks: JoinSet<()>,
    started: Arc<Checks>,
}

/// What the health checks know.
#[derive(Default)]
struct Checks {
    store: Mutex<Option<String>>,
    bootstrapped: Mutex<bool>,
}

impl Server {
    /// Needs a runtime; binds nothing.
    pub async fn build(config: Config, stop: CancellationToken) -> anyhow::Result<Self> {
        let cert = ReloadingCert::load(&config.cert, &config.key).context("loading the serving certificate")?;
        let clients = ClientTrust::load(&config.client_ca).context("loading the authorities of clients")?;
        let tls =
            tls::server_config(cert, ClientAuth::Requested(&clients), &["h2", "http/1.1"]).context("setting up TLS")?;
        let backend = backend(&config).context("setting up the kubelet client")?;
        let store = Store::connect(&config.store).await.context("setting up the etcd client")?;
        let catalog = Catalog::builtin();
        let (caches, revisions) = Caches::new(catalog.stored().collect(), store.clone());
        let keys = Keys {
            issuer: config.issuer.clone(),
            audiences: config.audiences.clone(),
            public: config.public_keys.clone(),
            signing: config.signing_key.clone(),
        };
        let tokens = Arc::new(keys.load(caches.clone()).context("loading the service account keys")?);
        let rbac = Rbac::new(&caches).context("the resource table has no RBAC kinds")?;
        let services = Services::new(config.service_range, config.node_ports).map_err(anyhow::Error::msg)?;
        let health = Health::new();
        let metrics = Metrics::register(health.metrics());
        let mut tasks = JoinSet::new();
        tasks.spawn(revisions);
        tasks.spawn(caches.clone().feed(store.clone(), stop.clone()));
        tasks.spawn(store::run_compactor(store.clone(), config.compaction_interval, stop.clone()));
        let api = Arc::new(Api {
            config,
            store,
            catalog,
            caches,
            rbac,
            tokens,
            services,
            backend,
            documents: Documents::default(),
            health,
            turns: Turns::default(),
            metrics,
            stop,
        });
        let started = Arc::new(Checks { store: Mutex::new(Some("not reached yet".to_owned())), ..Checks::default() });
        checks(&api, &started);
        Ok(Self { api, tls: Arc::new(tls), clients, tasks, started })
    }

    /// Serves on a bound listener until the token is cancelled, then drains.
    pub async fn run(mut self, listener: TcpListener) {
        let api = self.api;
        self.tasks.spawn(watch_store(api.clone(), self.started.clone()));
        self.tasks.spawn(start(api.clone(), self.started.clone()));
        let inflight = Inflight::new(api.config.max_reads, api.config.max_writes);
        let chain = Arc::new(Chain { api: api.clone(), inflight, clients: self.clients });
        let (stop, grace) = (api.stop.clone(), api.config.grace_period);
        serve::run(listener, self.tls, chain, stop, grace).await;
        daemon::notify::stopping();
        self.tasks.shutdown().await;
    }

    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }
}

fn backend(config: &Config) -> Result<Backend, tls::Error> {
    let identity = ReloadingCert::load(&config.kubelet_cert, &config.kubelet_key)?;
    let kubelet = tls::client_config(&config.kubelet_ca, Some(identity))?;
    let verifier = Arc::new(AnyCertificate(tls::provider()));
    let unverified = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Backend::new(Arc::new(kubelet), Arc::new(unverified)))
}

fn checks(api: &Arc<Api>, started: &Arc<Checks>) {
    let known = started.clone();
    api.health.live("etcd", move || known.store.lock().clone().map_or(Ok(()), Err));
    let known = started.clone();
    api.health.ready("poststarthook/rbac/bootstrap-roles", move || {
        if *known.bootstrapped.lock() { Ok(()) } else { Err("not finished".to_owned()) }
    });
    let caches = api.caches.clone();
    api.health.ready("informer-sync", move || if caches.is_loaded() { Ok(()) } else { Err("not loaded".to_owned()) });
    let stop = api.stop.clone();
    api.health.ready(
        "shutdown",
        move || if stop.is_cancelled() { Err("process is shutting down".to_owned()) } else { Ok(()) },
    );
}

async fn watch_store(api: Arc<Api>, started: Arc<Checks>) {
    let probe = || async { api.store.probe().await.err().map(|e| e.to_string()) };
    tokio::select! {
        () = api.stop.cancelled() => {}
        never = ask(probe, &started.store) => match never {},
    }
}

/// A store that comes up after this server is seen at once, and so is one that comes back.
async fn ask<F>(probe: impl Fn() -> F, known: &Mutex<Option<String>>) -> Infallible
where
    F: Future<Output = Option<String>>,
{
    loop {
        let failed = probe().await;
        let pause = if failed.is_some() { STORE_RETRY } else { STORE_CHECK };
        *known.lock() = failed;
        tokio::time::sleep(pause).await;
    }
}

/// Fills an empty cluster and keeps what the server itself keeps.
async fn start(api: Arc<Api>, started: Arc<Checks>) {
    api.caches.wait_loaded().await;
    api.services.rebuild(&api);
    while let Err(error) = bootstrap(&api).await {
        tracing::warn!(%error, "filling the cluster");
        tokio::select! {
            () = api.stop.cancelled() => return,
            () = tokio::time::sleep(BOOTSTRAP_RETRY) => {}
        }
    }
    *started.bootstrapped.lock() = true;
    tracing::info!(port = api.config.bind.port(), "ready");
    daemon::notify::ready();
    let stop = api.stop.clone();
    tokio::join!(
        kubernetes::keep(&api, stop.clone()),
        kubernetes::keep_addresses(&api, stop.clone()),
        reconcile::keep_aggregated(api.clone(), stop)
    );
}

async fn bootstrap(api: &Api) -> Result<(), api::ApiError> {
    kubernetes::bootstrap(api).await?;
    reconcile::bootstrap(api).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::Instant;

    use super::*;

    /// Here: it was missed for five seconds, and the server was as long not ready.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_up_later_is_seen_at_once() {
        let (asked, known, begun) = (AtomicU32::new(0), Mutex::new(Some("not reached yet".to_owned())), Instant::now());
        let probe = || {
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            std::future::ready((nth < 3).then(|| "reading from etcd".to_owned()))
        };
        let seen = async {
            while known.lock().is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            never = ask(probe, &known) => match never {},
            () = seen => {}
        }
        assert!(begun.elapsed() < STORE_CHECK, "{:?}", begun.elapsed());
    }
}
