//! Wires the watches, the proxiers and the servers together.

use std::sync::Arc;

use anyhow::Context;
use client::informer::{Change, Informer, Key};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::watcher;
use netfilter::Iptables;
use proxyrules::{Family, ServiceKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::health::{self, ProxyHealth};
use crate::http;
use crate::metrics::Metrics;
use crate::node::{Facts, rules_config};
use crate::proxier::{Periods, Proxier};
use crate::service_health::ServiceHealth;

/// Headless Services need no rules, and some Services are another proxy's.
const SELECTOR: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

type Proxiers = Arc<[Arc<Proxier>]>;

/// Runs until the token is cancelled.
pub async fn run(config: Config, token: CancellationToken) -> anyhow::Result<()> {
    let random_fully = Iptables::V4.has_random_fully().await.context("iptables is needed")?;
    let client = client::connect(&config.kubeconfig, "kube-proxy")?;
    let side = daemon::health::Health::new();
    let metrics = side.metrics().register(Metrics::register);
    let proxy_health = Arc::new(ProxyHealth::new(config.sync_period * 2));
    serve(&config, side, &proxy_health, &token).await?;
    daemon::notify::ready();

    let mut facts = watch_node(&config, &client, &proxy_health, &token);
    let wait = facts.wait_for(|facts| facts.as_ref().is_some_and(|facts| facts.suffice(&config)));
    let first = tokio::select! {
        () = token.cancelled() => return Ok(()),
        facts = wait => facts.context("the watch of the node ended")?.clone().unwrap_or_default(),
    };
    let proxiers = proxiers(&config, &first, random_fully, &proxy_health, &metrics)?;
    let services = watch_services(&client, proxiers.clone(), &token);
    let slices = watch_slices(&client, proxiers.clone(), &token);
    tokio::select! {
        () = token.cancelled() => return Ok(()),
        () = async { services.synced().await; slices.synced().await } => {}
    }
    tracing::info!(services = services.len(), slices = slices.len(), "starting to proxy");
    // A Service has one health check, whatever its families: the first loop serves it.
    let mut service_health = Some(ServiceHealth::new(proxy_health));
    let mut spawn = |proxier: &Arc<Proxier>| {
        let (proxier, health, token) = (proxier.clone(), service_health.take(), token.clone());
        tokio::spawn(async move { proxier.run(health, token).await })
    };
    let loops: Vec<_> = proxiers.iter().map(&mut spawn).collect();
    follow_node(&config, facts, random_fully, &proxiers, &token).await;
    for running in loops {
        running.await.context("a sync loop failed")?;
    }
    daemon::notify::stopping();
    Ok(())
}

async fn serve(
    config: &Config,
    side: daemon::health::Health,
    proxy_health: &Arc<ProxyHealth>,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    if let Some(address) = config.metrics_address {
        side.page("/proxyMode", || ("text/plain; charset=utf-8", "iptables".to_owned()));
        let listener = daemon::health::bind(address).await?;
        tokio::spawn(daemon::health::serve(listener, None, side, token.clone()));
    }
    if let Some(address) = config.healthz_address {
        let listener = daemon::health::bind(address).await?;
        tokio::spawn(http::serve(listener, health::handler(proxy_health.clone()), token.clone()));
    }
    Ok(())
}

/// IPv4 always; IPv6 where the cluster or the node has it.
fn proxiers(
    config: &Config,
    facts: &Facts,
    random_fully: bool,
    health: &Arc<ProxyHealth>,
    metrics: &Metrics,
) -> anyhow::Result<Proxiers> {
    let periods = Periods { min_sync: config.min_sync_period, canary: config.sync_period };
    let mut families = vec![Family::V4];
    if config.cluster_cidrs.iter().any(|cidr| cidr.addr().is_ipv6()) || facts.ips.iter().any(|ip| ip.is_ipv6()) {
        families.push(Family::V6);
    }
    let build = |family| {
        let rules = rules_config(config, facts, family, random_fully);
        if rules.serves_localhost() {
            let path = "/proc/sys/net/ipv4/conf/all/route_localnet";
            std::fs::write(path, "1").with_context(|| format!("cannot let node ports answer on loopback: {path}"))?;
        }
        Ok(Arc::new(Proxier::new(rules, periods, health.clone(), metrics.of(family))))
    };
    families.into_iter().map(build).collect()
}

fn watch_node(
    config: &Config,
    client: &kube::Client,
    health: &Arc<ProxyHealth>,
    token: &CancellationToken,
) -> watch::Receiver<Option<Facts>> {
    let (sender, receiver) = watch::channel(None);
    let selector = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let health = health.clone();
    Informer::builder(Api::<Node>::all(client.clone()), selector)
        .on_change(move |change| {
            let mut facts = Facts::of(change.object());
            facts.eligible &= !matches!(change, Change::Deleted(_));
            health.set_eligible(facts.eligible);
            sender.send_if_modified(|known| known.replace(facts.clone()) != Some(facts));
        })
        .start(token.clone());
    receiver
}

fn watch_services(client: &kube::Client, proxiers: Proxiers, token: &CancellationToken) -> Informer<Service> {
    let selector = watcher::Config::default().labels(SELECTOR);
    Informer::builder(Api::<Service>::all(client.clone()), selector)
        .trim(|service| service.metadata.managed_fields = None)
        .on_change(move |change| {
            let key = Key::of(change.object().as_ref());
            let key = ServiceKey::new(key.namespace, key.name);
            let service = (!matches!(change, Change::Deleted(_))).then_some(change.object().as_ref());
            proxiers.iter().for_each(|proxier| proxier.service_changed(&key, service));
        })
        .start(token.clone())
}

fn watch_slices(client: &kube::Client, proxiers: Proxiers, token: &CancellationToken) -> Informer<EndpointSlice> {
    let selector = watcher::Config::default().labels(SELECTOR);
    Informer::builder(Api::<EndpointSlice>::all(client.clone()), selector)
        .trim(|slice| slice.metadata.managed_fields = None)
        .on_change(move |change| {
            let deleted = matches!(change, Change::Deleted(_));
            proxiers.iter().for_each(|proxier| proxier.slice_changed(change.object(), deleted));
        })
        .start(token.clone())
}

/// Hands new facts of the node to the proxiers, until the token is cancelled.
async fn follow_node(
    config: &Config,
    mut facts: watch::Receiver<Option<Facts>>,
    random_fully: bool,
    proxiers: &Proxiers,
    token: &CancellationToken,
) {
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            changed = facts.changed() => if changed.is_err() { return },
        }
        let facts = facts.borrow_and_update().clone().unwrap_or_default();
        for proxier in proxiers.iter().filter(|_| facts.suffice(config)) {
            proxier.node_changed(rules_config(config, &facts, proxier.family(), random_fully));
        }
    }
}
