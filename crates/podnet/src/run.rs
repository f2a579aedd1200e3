//! Watches the Nodes and keeps the network as they want it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::informer::{Informer, Key};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::plan::plan;
use crate::status;
use crate::sync::Network;

/// How often to look whether somebody flushed the rules; the kernel does not tell.
const RULES_CHECK_PERIOD: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Many nodes that come at once make one sync.
const COALESCE: Duration = Duration::from_millis(100);

/// Runs until the token is cancelled; the network stays.
pub async fn run(config: Config, token: CancellationToken) -> anyhow::Result<()> {
    let client = client::connect(&config.kubeconfig, "kube-podnet")?;
    let health = daemon::health::Health::new();
    let metrics = health.metrics().register(Metrics::register);
    let synced = Arc::new(AtomicBool::new(false));
    let ready = synced.clone();
    health.ready("network", move || {
        if ready.load(Ordering::Relaxed) { Ok(()) } else { Err("the pod network is not set up".into()) }
    });
    if let Some(address) = config.metrics_address {
        let listener = daemon::health::bind(address).await?;
        tokio::spawn(daemon::health::serve(listener, None, health, token.clone()));
    }
    let wake = Arc::new(Notify::new());
    let network = Network::new(config.clone(), wake.clone()).await?;
    let api = Api::<Node>::all(client);
    let nodes = watch(&api, &wake, &token);
    daemon::notify::ready();
    tokio::select! {
        () = token.cancelled() => {}
        () = Loop { node_name: config.node_name, network, nodes, api, wake, metrics, synced }.run() => {}
    }
    daemon::notify::stopping();
    Ok(())
}

fn watch(api: &Api<Node>, wake: &Arc<Notify>, token: &CancellationToken) -> Informer<Node> {
    let wake = wake.clone();
    let trim = |node: &mut Node| {
        node.metadata.managed_fields = None;
        if let Some(status) = &mut node.status {
            status.images = None;
        }
    };
    Informer::builder(api.clone(), watcher::Config::default())
        .trim(trim)
        .on_change(move |change| {
            use client::Change;
            // Nodes report their health every few seconds; most of it is none of our concern.
            let relevant = match change {
                Change::Updated { old, new } => relevant(old) != relevant(new),
                _ => true,
            };
            if relevant {
                wake.notify_one();
            }
        })
        .start(token.clone())
}

/// What of a Node a sync depends on.
fn relevant(node: &Node) -> impl PartialEq {
    let spec = node.spec.as_ref().map(|spec| (spec.pod_cidr.clone(), spec.pod_cidrs.clone()));
    let status = node.status.as_ref();
    let available = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let available = available.filter(|condition| condition.type_ == "NetworkUnavailable").cloned().collect::<Vec<_>>();
    (spec, status.and_then(|status| status.addresses.clone()), available)
}

struct Loop {
    node_name: String,
    network: Network,
    nodes: Informer<Node>,
    api: Api<Node>,
    wake: Arc<Notify>,
    metrics: Metrics,
    synced: Arc<AtomicBool>,
}

impl Loop {
    async fn run(mut self) {
        // Before that, a missing node could mean a missing list, and its route would be lost.
        self.nodes.synced().await;
        let mut failures: u32 = 0;
        loop {
            match self.sync().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.metrics.sync_errors.inc();
                    tracing::error!(error = format!("{error:#}"), "cannot set up the pod network; will retry");
                }
            }
            self.woken(failures).await;
            tokio::time::sleep(COALESCE).await;
        }
    }

    async fn sync(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let nodes = self.nodes.list();
        let Some(plan) = plan(&self.node_name, nodes.iter().map(AsRef::as_ref)) else {
            tracing::info!(node = self.node_name, "waiting for this node's pod network (spec.podCIDR)");
            return Ok(());
        };
        self.metrics.routes.set(i64::try_from(plan.routes.len()).unwrap_or(i64::MAX));
        self.network.sync(&plan).await?;
        self.metrics.sync_duration.observe(started.elapsed().as_secs_f64());
        if !self.synced.swap(true, Ordering::Relaxed) {
            tracing::info!(pod_cidrs = ?plan.pod_cidrs, routes = plan.routes.len(), "the pod network is set up");
        }
        if let Some(node) = self.nodes.get(&Key::new("", &self.node_name)) {
            status::report(&self.api, &node).await?;
        }
        Ok(())
    }

    /// Returns when there is something to do.
    async fn woken(&mut self, failures: u32) {
        if failures > 0 {
            let delay = RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_MOST);
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(delay) => {}
            }
            return;
        }
        loop {
            tokio::select! {
                () = self.wake.notified() => return,
                () = tokio::time::sleep(RULES_CHECK_PERIOD) => {}
            }
            if !self.network.rules_live().await {
                tracing::warn!("the rules have been flushed by somebody else: writing them again");
                return;
            }
        }
    }
}
