//! From a checked configuration to a serving store, and back down.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use daemon::tls::{ClientAuth, ReloadingCert};
use daemon::{CancellationToken, health};
use http::StatusCode;
use rustls::ServerConfig;
use tokio::task::JoinSet;

use crate::auth::Asker;
use crate::config::{Config, Endpoint};
use crate::gate::Gate;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;
use crate::raft_node::{self, Handle, Threads};
use crate::server::{self, Listener};
use crate::service::{self, Context};
use crate::shared::Shared;
use crate::{compactor, data_dir, lessor, metrics};

/// Runs until `stop` is cancelled or the node fails.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    let client_tls = tls(&config, &["h2"])?;
    let side_tls = tls(&config, &["h2", "http/1.1"])?;
    let opened = data_dir::open(&config)?;
    let _lock = opened.lock;
    let clients = bind(&config.clients, client_tls.as_ref()).await?;
    let side = bind(&config.metrics, side_tls.as_ref()).await?;
    let shared =
        Arc::new(Shared::new(opened.member_id, opened.state, Gate::new(config.tokens.clone(), config.bcrypt_cost)));
    let health = side_port(&shared, config.quota_bytes);
    let drain = CancellationToken::new();
    for Listener { listener, tls } in side {
        tokio::spawn(health::serve(listener, tls, health.clone(), drain.clone()));
    }
    let node_config = raft_node::Config { member_id: opened.member_id, snapshot_count: config.snapshot_count };
    let failed = CancellationToken::new();
    let (node, threads) =
        raft_node::start(node_config, shared.clone(), opened.wal, opened.recovered, opened.checkpoint, failed.clone())?;
    let context = Context { shared, node, limits: (&config).into(), drain: drain.clone() };
    let served = serve(&config, &context, clients, &stop, &failed).await;
    drain.cancel();
    stop_node(threads).await?;
    served?;
    anyhow::ensure!(!context.shared.status.failed(), "the node failed, see the log");
    Ok(())
}

async fn serve(
    config: &Config,
    context: &Context,
    clients: Vec<Listener>,
    stop: &CancellationToken,
    failed: &CancellationToken,
) -> Result<()> {
    tokio::select! {
        published = publish(config, context) => published?,
        () = failed.cancelled() => return Ok(()),
        () = stop.cancelled() => return Ok(()),
    }
    let mut background = JoinSet::new();
    let (shared, node) = (context.shared.clone(), context.node.clone());
    let mode = config.compaction;
    background.spawn(async move { compactor::run(mode, &shared, &node).await });
    background.spawn(expire(context.shared.clone(), context.node.clone()));
    let ending = context.drain.clone();
    let serving = server::serve(clients, service::routes(context), ending.clone());
    tokio::pin!(serving);
    daemon::notify::ready();
    tracing::info!(
        name = config.name,
        member_id = format!("{:x}", context.shared.member_id),
        clients = ?config.clients.iter().map(|e| e.address).collect::<Vec<_>>(),
        "ready to serve client requests"
    );
    tokio::select! {
        served = &mut serving => return served,
        () = stop.cancelled() => daemon::notify::stopping(),
        () = failed.cancelled() => {}
    }
    ending.cancel();
    serving.await
}

/// Waits until the log is applied, and tells the cluster where this member's clients find it.
async fn publish(config: &Config, context: &Context) -> Result<()> {
    let member = pb::Member {
        id: context.shared.member_id,
        name: config.name.clone(),
        client_ur_ls: config.advertise_client_urls.clone(),
        ..pb::Member::default()
    };
    let known = |m: &pb::Member| m.name == member.name && m.client_ur_ls == member.client_ur_ls;
    context.node.read_index().await.context("the log could not be applied")?;
    if context.shared.state.read().members.get(&member.id).is_some_and(known) {
        return Ok(());
    }
    context.node.propose(Op::Publish(member)).await.context("cannot publish this member")?;
    Ok(())
}

/// Ends leases that have run out, through the log.
async fn expire(shared: Arc<Shared>, node: Handle) {
    loop {
        for id in shared.lessor.expired().await {
            let revoked = node.propose(Asker::Member.sign(Op::LeaseRevoke(pb::LeaseRevokeRequest { id }))).await;
            match revoked {
                Ok(_) => tracing::debug!(id, "lease expired"),
                Err(crate::error::Refusal::LeaseNotFound) => {}
                Err(error) => {
                    tracing::warn!(id, %error, "an expired lease could not be ended; trying again");
                    tokio::time::sleep(lessor::RETRY).await;
                    break;
                }
            }
        }
    }
}

async fn stop_node(threads: Threads) -> Result<()> {
    let stopped = tokio::task::spawn_blocking(move || threads.stop());
    stopped.await.context("the node's threads did not end")
}

fn tls(config: &Config, alpn: &[&str]) -> Result<Option<Arc<ServerConfig>>> {
    let Some(tls) = &config.tls else {
        return Ok(None);
    };
    let cert = ReloadingCert::load(&tls.cert, &tls.key)?;
    let clients = match &tls.ca {
        Some(ca) if tls.client_cert_auth => ClientAuth::Required(ca),
        _ => ClientAuth::None,
    };
    let server = daemon::tls::server_config(cert, clients, alpn)?;
    Ok(Some(Arc::new(server)))
}

async fn bind(endpoints: &[Endpoint], tls: Option<&Arc<ServerConfig>>) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for endpoint in endpoints {
        let listener = health::bind(endpoint.address).await?;
        listeners.push(Listener { listener, tls: tls.filter(|_| endpoint.tls).cloned() });
    }
    Ok(listeners)
}

fn side_port(shared: &Arc<Shared>, quota_bytes: u64) -> health::Health {
    let health = health::Health::new();
    let alive = shared.clone();
    health.live("raft", move || if alive.status.failed() { Err("the node failed".into()) } else { Ok(()) });
    let ready = shared.clone();
    health.ready("linearizable_read", move || unhealthy(&ready).map_or(Ok(()), |why| Err(why.into())));
    let asked = shared.clone();
    health.status_page("/health", move || {
        let why = unhealthy(&asked);
        let code = if why.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        let body = serde_json::json!({ "health": why.is_none().to_string(), "reason": why.unwrap_or_default() });
        (code, "application/json", body.to_string())
    });
    health.metrics().register(|registry| metrics::register(registry, shared.clone(), quota_bytes));
    health
}

fn unhealthy(shared: &Shared) -> Option<&'static str> {
    if shared.status.failed() {
        return Some("RAFT FAILED");
    }
    if shared.status.leader() == 0 {
        return Some("RAFT NO LEADER");
    }
    let out_of_space = shared.state.read().out_of_space();
    out_of_space.then_some("ALARM NOSPACE")
}
