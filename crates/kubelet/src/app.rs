//! Start-up: builds every part in order, runs them until shutdown.
//!
//! Containers outlive the kubelet: nothing here stops them when it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use client::{Informer, Recorder};
use daemon::CancellationToken;
use daemon::health::Health;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::Api;
use kube::runtime::watcher;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::cgroups::Cgroups;
use crate::config::Settings;
use crate::context::Context;
use crate::events::Events;
use crate::images::Images;
use crate::node::{capacity, lease, register};
use crate::objects::Objects;
use crate::pods::{Pods, lifecycle, static_pods};
use crate::server;
use crate::volumes::token::Tokens;

pub struct App {
    ctx: Arc<Context>,
    pods: Arc<Pods>,
    health: Health,
    api_listener: TcpListener,
    health_listener: Option<TcpListener>,
    tls: server::tls::Tls,
}

/// Everything that can fail does so here, before anything runs.
pub async fn build(settings: Settings, token: &CancellationToken) -> anyhow::Result<App> {
    std::fs::create_dir_all(settings.pods_dir())
        .with_context(|| format!("cannot make {}", settings.pods_dir().display()))?;
    let machine = capacity::machine(&settings)?;
    let cgroups = Cgroups::new(&settings.config.cgroup_root, settings.config.cgroups_per_qos);
    let milli = |name: &str| machine.enforced.get(name).map_or(0, podsync::quantity::milli);
    cgroups.setup(milli("cpu"), milli("memory") / 1000).context("cannot set up the pods' cgroups")?;
    let cri = cri::Client::new(&settings.config.container_runtime_endpoint)?;
    let api = settings.kubeconfig.as_deref().map(|path| client::connect(path, "kubelet")).transpose()?;
    let recorder = api.clone().map(|api| Recorder::new(api, "kubelet", Some(&settings.node_name)));
    let events = Events::new(recorder);
    let objects = Objects::new(api.clone());
    let tls = server::tls::config(&settings)?;
    let config = &settings.config;
    let api_listener = daemon::health::bind(SocketAddr::new(config.address, config.port)).await?;
    let health_listener = match config.healthz_port {
        0 => None,
        port => Some(daemon::health::bind(SocketAddr::new(config.healthz_bind_address, port)).await?),
    };
    let services = api.clone().map(|api| {
        let services: Api<Service> = Api::all(api);
        Informer::builder(services, watcher::Config::default()).start(token.clone())
    });
    let ctx = Arc::new(Context {
        images: Images::new(cri.clone(), events.clone(), objects.clone(), config.serialize_image_pulls),
        tokens: Tokens::new(api.clone()),
        node: Default::default(),
        settings,
        cri,
        api,
        events,
        cgroups,
        objects,
        services,
        machine,
    });
    Ok(App { ctx, pods: Arc::default(), health: Health::new(), api_listener, health_listener, tls })
}

impl App {
    pub async fn run(self, token: CancellationToken) {
        let tasks = TaskTracker::new();
        self.health.live("ping", || Ok(()));
        if let Some(listener) = self.health_listener {
            tasks.spawn(daemon::health::serve(listener, None, self.health.clone(), token.clone()));
        }
        let server = server::Server::new(self.ctx.clone(), self.pods.clone(), self.health.clone());
        tasks.spawn(server.run(self.api_listener, self.tls, token.clone()));
        let changed = Arc::new(Notify::new());
        let informer = start_api(&self.ctx, &self.pods, &changed, &tasks, &token);
        if let Some(dir) = self.ctx.settings.config.static_pod_path.clone() {
            tasks.spawn(static_pods::run(self.ctx.clone(), self.pods.clone(), dir, token.clone()));
        }
        tasks.spawn(lifecycle::run(self.ctx.clone(), self.pods.clone(), token.clone()));
        tasks.spawn(follow_objects(self.ctx.clone(), self.pods.clone(), token.clone()));
        self.ctx.events.node(
            &register::node_reference(&self.ctx.settings.node_name),
            client::recorder::Type::Normal,
            "Starting",
            "Starting kubelet.",
        );
        daemon::notify::ready();
        tracing::info!(node = self.ctx.settings.node_name, "kubelet started");
        let pods = self.pods.clone();
        tokio::select! {
            () = token.cancelled() => {}
            () = async {
                if let Some(informer) = informer {
                    informer.synced().await;
                }
                pods.set_sources_ready();
                std::future::pending::<()>().await;
            } => {}
        }
        daemon::notify::stopping();
        tasks.close();
        tasks.wait().await;
    }
}

/// Everything that needs an API server.
fn start_api(
    ctx: &Arc<Context>,
    pods: &Arc<Pods>,
    changed: &Arc<Notify>,
    tasks: &TaskTracker,
    token: &CancellationToken,
) -> Option<Informer<Pod>> {
    let client = ctx.api.clone()?;
    let name = ctx.settings.node_name.clone();
    let registrar = register::Registrar::new(ctx.clone(), client.clone(), changed.clone());
    tasks.spawn(registrar.run(token.clone()));
    tasks.spawn(lease::run(ctx.clone(), client.clone(), token.clone()));
    let (watched, ring) = (Arc::downgrade(ctx), changed.clone());
    let nodes = watcher::Config::default().fields(&format!("metadata.name={name}"));
    Informer::<Node>::builder(Api::all(client.clone()), nodes)
        .on_change(move |change| {
            let Some(ctx) = watched.upgrade() else { return };
            let gone = matches!(change, client::Change::Deleted(_));
            let before = ctx.node.read().as_ref().and_then(|n| n.spec.clone());
            let now = change.object().clone();
            let news = gone || before != now.spec;
            *ctx.node.write() = (!gone).then_some(now);
            if news {
                ring.notify_one();
            }
        })
        .start(token.clone());
    let (ctx, pods) = (ctx.clone(), pods.clone());
    let mine = watcher::Config::default().fields(&format!("spec.nodeName={name}"));
    let trim = |pod: &mut Pod| pod.metadata.managed_fields = None;
    let informer = Informer::builder(Api::all(client), mine).trim(trim);
    Some(informer.on_change(move |change| pods.apply(&ctx, change)).start(token.clone()))
}

async fn follow_objects(ctx: Arc<Context>, pods: Arc<Pods>, token: CancellationToken) {
    let mut changes = ctx.objects.changes();
    loop {
        let change = tokio::select! { () = token.cancelled() => return, change = changes.recv() => change };
        match change {
            Ok(reference) => pods.mark_stale(&reference),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => pods.mark_all_stale(),
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}
