//! Wires the watches, the index and the sockets together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::informer::{Change, Informer, Key};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::watcher;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::forward::Forwarder;
use crate::handler::Handler;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::server::Sockets;

/// Runs until the token is cancelled.
pub async fn run(config: Config, token: CancellationToken) -> anyhow::Result<()> {
    let client = client::connect(&config.kubeconfig, "kube-dns")?;
    let sockets = Sockets::bind(&config.bind_addresses).await?;
    let forwarder = Arc::new(Forwarder::new(config.upstreams.clone()));
    let synced = Arc::new(AtomicBool::new(false));
    let metrics = serve_side_port(&config, &forwarder, &synced, &token).await?;
    let index = Arc::new(RwLock::new(Index::new(config.cluster_domain.clone())));
    let handler = Handler::new(index.clone(), forwarder, synced.clone(), metrics);
    let cluster = Arc::new(Cluster::new(config.cluster_domain, index.clone()));
    let services = watch_services(&client, &cluster, &token);
    let slices = watch_slices(&client, &cluster, &token);
    let namespaces = watch_namespaces(&client, &cluster, &token);
    tokio::spawn(async move {
        services.synced().await;
        slices.synced().await;
        namespaces.synced().await;
        synced.store(true, Ordering::Relaxed);
        let (services, slices, names) = (services.len(), slices.len(), index.read().len());
        tracing::info!(services, slices, names, "all names are known");
    });
    tracing::info!(addresses = ?sockets.addresses()?, upstreams = ?config.upstreams, "answering");
    daemon::notify::ready();
    let served = sockets.serve(handler, token).await;
    daemon::notify::stopping();
    served
}

async fn serve_side_port(
    config: &Config,
    forwarder: &Forwarder,
    synced: &Arc<AtomicBool>,
    token: &CancellationToken,
) -> anyhow::Result<Metrics> {
    let health = daemon::health::Health::new();
    let metrics = health.metrics().register(|registry| Metrics::register(registry, &forwarder.hits, &forwarder.misses));
    health.page("/health", || ("text/plain; charset=utf-8", "OK".to_owned()));
    let ready = synced.clone();
    health.ready("kubernetes", move || {
        if ready.load(Ordering::Relaxed) { Ok(()) } else { Err("the cluster's Services are not known yet".into()) }
    });
    if let Some(address) = config.metrics_address {
        let listener = daemon::health::bind(address).await?;
        tokio::spawn(daemon::health::serve(listener, None, health, token.clone()));
    }
    Ok(metrics)
}

fn watch_services(client: &kube::Client, cluster: &Arc<Cluster>, token: &CancellationToken) -> Informer<Service> {
    let cluster = cluster.clone();
    Informer::builder(Api::<Service>::all(client.clone()), watcher::Config::default())
        .trim(|service| {
            service.metadata.managed_fields = None;
            service.metadata.annotations = None;
            service.status = None;
        })
        .on_change(move |change| match change {
            Change::Added(service) | Change::Updated { new: service, .. } => cluster.set_service(service.clone()),
            Change::Deleted(service) => {
                let key = Key::of(service.as_ref());
                cluster.remove_service(&key.namespace, &key.name);
            }
        })
        .start(token.clone())
}

fn watch_slices(client: &kube::Client, cluster: &Arc<Cluster>, token: &CancellationToken) -> Informer<EndpointSlice> {
    let cluster = cluster.clone();
    Informer::builder(Api::<EndpointSlice>::all(client.clone()), watcher::Config::default())
        .trim(|slice| {
            slice.metadata.managed_fields = None;
            slice.metadata.annotations = None;
        })
        .on_change(move |change| match change {
            Change::Added(slice) => cluster.set_slice(slice.clone()),
            Change::Updated { old, new } => {
                // A slice may be given to another Service.
                if old.metadata.labels != new.metadata.labels {
                    cluster.remove_slice(old);
                }
                cluster.set_slice(new.clone());
            }
            Change::Deleted(slice) => cluster.remove_slice(slice),
        })
        .start(token.clone())
}

fn watch_namespaces(client: &kube::Client, cluster: &Arc<Cluster>, token: &CancellationToken) -> Informer<Namespace> {
    let cluster = cluster.clone();
    Informer::builder(Api::<Namespace>::all(client.clone()), watcher::Config::default())
        .trim(|namespace| namespace.metadata.managed_fields = None)
        .on_change(move |change| {
            let key = Key::of(change.object().as_ref());
            match change {
                Change::Added(_) => cluster.add_namespace(&key.name),
                Change::Deleted(_) => cluster.remove_namespace(&key.name),
                Change::Updated { .. } => {}
            }
        })
        .start(token.clone())
}
