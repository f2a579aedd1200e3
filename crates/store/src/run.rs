//! From a checked configuration to a serving store, and back down.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use daemon::health::Reserved;
use daemon::tls::{ClientAuth, ReloadingCert};
use daemon::tls_policy::Policy;
use daemon::{CancellationToken, health};
use futures::future::join_all;
use rustls::{ClientConfig, ServerConfig};
use tokio::task::JoinSet;

use crate::auth::Asker;
use crate::config::{Config, Endpoint, Tls};
use crate::error::Refusal;
use crate::gate::Gate;
use crate::metrics::Traffic;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::MembersResponse;
use crate::pb::kvraft::command::Op;
use crate::peer::{self, Connector, Hello, Joiner, Peers};
use crate::raft_node::{self, Handle, Outbound as _, RaftThread};
use crate::server::{self, Listener, Names, PEER_CONNECTIONS, Tuning};
use crate::service::{self, Context};
use crate::shared::Shared;
use crate::{compactor, corrupt_check, data_dir, disk_watch, leader_watch, lessor, side};

/// Between two tries to find the cluster's quorum.
const PUBLISH_RETRY: Duration = Duration::from_millis(200);
/// At the end nothing that peers ask takes long, but to one of them who does not answer.
const PEERS_PATIENCE: Duration = Duration::from_millis(500);

/// Runs until `stop` is cancelled or the node fails.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    let client_tls = tls(config.tls.as_ref(), &config.tls_policy, &["h2", "http/1.1"])?;
    let peer_tls = tls(config.peer_tls.as_ref(), &config.tls_policy, &["h2"])?;
    let connector = Connector::new(peer_client_tls(config.peer_tls.as_ref(), &config.tls_policy)?);
    let locks = data_dir::lock(&config)?;
    // Who cannot have its addresses begins nothing under them.
    let clients = reserve(&config.clients)?;
    let peer_port = reserve(&config.peers)?;
    let side = reserve(&config.metrics)?;
    let opened = data_dir::open(&config, &locks, || find_cluster(&config, &connector)).await?;
    let named = config.tls.as_ref().is_some_and(|tls| tls.client_cert_auth);
    let clients = listen(clients, client_tls.as_ref(), &if named { Names::Users } else { Names::Nothing })?;
    let only = config.peer_name.as_deref().map_or(Names::Nothing, |name| Names::Only(name.into()));
    let peer_port = listen(peer_port, peer_tls.as_ref(), &only)?;
    let side = listen(side, client_tls.as_ref(), &Names::Nothing)?;
    let shared =
        Arc::new(Shared::new(opened.member_id, opened.state, Gate::new(config.tokens.clone(), config.bcrypt_cost)));
    let health = side::pages(&shared, config.quota_bytes);
    let drain = CancellationToken::new();
    for Listener { listener, tls, .. } in side {
        tokio::spawn(health::serve(listener, tls, health.clone(), drain.clone()));
    }
    let inputs = raft_node::inputs();
    let hello = Hello { cluster_id: shared.cluster_id, from: shared.member_id };
    let raft_thread = RaftThread::start()?;
    let peer_runtime = raft_thread.runtime.clone();
    let gauges = shared.gauges.clone();
    let mut watching = JoinSet::new();
    watching.spawn(async move { match disk_watch::run(&gauges).await {} });
    let peers = Peers::new(hello, connector, inputs.0.clone(), peer_runtime.clone(), shared.gauges.clone());
    say_if_known_elsewhere(&config, &shared);
    let known = shared.state.read().member_list();
    peers.add_members(if known.is_empty() { &opened.peers } else { &known });
    let failed = CancellationToken::new();
    let parts = raft_node::Parts {
        config: raft_node::Config {
            member_id: opened.member_id,
            snapshot_count: config.snapshot_count,
            election_ticks: config.election_ticks,
            tick_ms: u64::try_from(config.tick.as_millis()).unwrap_or(u64::MAX),
            max_unsaved_bytes: raft_node::MAX_UNSAVED_BYTES,
            max_waiting_bytes: raft_node::MAX_WAITING_BYTES,
            max_applied_bytes: raft_node::MAX_APPLIED_BYTES,
            kept: raft_node::Kept::of(config.catchup_entries),
        },
        tick: config.tick,
        shared: shared.clone(),
        wal: opened.wal,
        recovered: opened.recovered,
        checkpoint: opened.checkpoint,
        peers: Box::new(peers.clone()),
        failed: failed.clone(),
    };
    let peer_inputs = inputs.0.clone();
    let (node, threads) = raft_node::start(raft_thread, parts, inputs)?;
    side::read_first(&health, &shared, node.clone());
    let limits = (&config).into();
    let context = Context {
        shared,
        node,
        limits,
        drain: drain.clone(),
        peers: peers.clone(),
        room: Arc::default(),
        pages: health,
    };
    // Open before this member asks anything of the cluster: a quorum may need its answers.
    let talking = CancellationToken::new();
    let routes = peer::routes(hello, &context, peer_inputs, talking.clone());
    let bounds = (PEER_CONNECTIONS, Tuning { patience: PEERS_PATIENCE, ..Tuning::default() });
    let peer_server = peer_runtime.spawn(server::serve(peer_port, routes, Traffic::default(), bounds, talking.clone()));
    let served = serve(&config, &context, clients, &stop, &failed).await;
    drain.cancel();
    // Its peers may still need one that was removed; the node knows for how long.
    if context.shared.status.is_removed() {
        tokio::select! { () = failed.cancelled() => {}, () = stop.cancelled() => {} }
    }
    let closing = tokio::task::spawn_blocking(|| threads.stop()).await.context("the node's threads did not end")?;
    talking.cancel();
    peer_server.await.context("the peers' server did not end")??;
    closing.close();
    served?;
    anyhow::ensure!(!context.shared.status.failed(), "the node failed, see the log");
    // One that was removed has said so, and is done: whoever starts daemons again when they fail has nothing to do.
    Ok(())
}

/// The others would look for this member where it does not listen.
fn say_if_known_elsewhere(config: &Config, shared: &Shared) {
    let state = shared.state.read();
    let Some(member) = state.members.get(&shared.member_id) else { return };
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    let (known, advertised) = (sorted(&member.peer_ur_ls), sorted(&config.advertise_peer_urls));
    if known != advertised {
        let (known, advertised) = (known.join(","), advertised.join(","));
        tracing::warn!(
            known,
            advertised,
            "the cluster knows this member by other peer URLs than it advertises: `etcdctl member update` changes them"
        );
    }
}

/// The cluster to join; none if one is to be founded.
async fn find_cluster(config: &Config, connector: &Connector) -> Result<Option<MembersResponse>> {
    let joiner =
        Joiner { name: &config.name, own_urls: &config.advertise_peer_urls, initial_cluster: &config.initial_cluster };
    if config.joins {
        return peer::join(connector, &joiner).await.map(Some);
    }
    peer::assert_new(connector, &joiner).await.map(|()| None)
}

async fn serve(
    config: &Config,
    context: &Context,
    clients: Vec<Listener>,
    stop: &CancellationToken,
    failed: &CancellationToken,
) -> Result<()> {
    let removed = context.peers.removed.clone();
    tokio::select! {
        published = publish(config, context) => published?,
        () = failed.cancelled() => return Ok(()),
        () = removed.cancelled() => return Ok(()),
        () = stop.cancelled() => return Ok(()),
    }
    if config.initial_corrupt_check {
        corrupt_check::run(context).await?;
    }
    let mut background = JoinSet::new();
    let (shared, node) = (context.shared.clone(), context.node.clone());
    let mode = config.compaction;
    background.spawn(async move { compactor::run(mode, &shared, &node).await });
    let (shared, election_timeout) = (context.shared.clone(), context.limits.election_timeout);
    background.spawn(async move { match leader_watch::run(&shared, election_timeout).await {} });
    background.spawn(expire(context.shared.clone(), context.node.clone()));
    let ending = context.drain.clone();
    let traffic = context.shared.gauges.clients.clone();
    let bounds = (server::client_connections(), config.tuning);
    let serving = server::serve(clients, service::routes(context), traffic, bounds, ending.clone());
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
        () = removed.cancelled() => {}
        () = failed.cancelled() => {}
    }
    // A node that has failed is gone already.
    let _ = context.node.drain();
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
    loop {
        let published = match context.node.read_index().await {
            Ok(()) if context.shared.state.read().members.get(&member.id).is_some_and(known) => return Ok(()),
            Ok(()) => context.node.propose(Asker::Member.sign(Op::Publish(member.clone()))).await.map(drop),
            Err(refusal) => Err(refusal),
        };
        match published {
            Ok(()) => return Ok(()),
            // The other members may not be up yet.
            Err(why) => tracing::warn!(%why, "waiting for the cluster"),
        }
        tokio::time::sleep(PUBLISH_RETRY).await;
    }
}

/// Ends leases that have run out, through the log. What ran out while another led did not: it knows of renewals that
/// this member does not, so a term's leases are ended in this term only.
async fn expire(shared: Arc<Shared>, node: Handle) {
    loop {
        shared.lessor.expired().await;
        // Read first: should another term begin, what it has found to have run out is refused, and found again.
        let term = shared.status.term();
        let ids = shared.lessor.expired().await;
        // Together: they share syncs of the log.
        let revoked = join_all(ids.into_iter().map(|id| end_lease(&shared, &node, term, id))).await;
        if let Some(error) = revoked.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "an expired lease could not be ended; trying again");
            tokio::time::sleep(lessor::RETRY).await;
        }
    }
}

async fn end_lease(shared: &Shared, node: &Handle, term: u64, id: i64) -> Result<(), Refusal> {
    let revoke = Asker::Member.sign(Op::LeaseRevoke(pb::LeaseRevokeRequest { id }));
    match node.propose_as_leader(term, revoke).await {
        Ok(_) => {
            shared.gauges.leases.expired.inc();
            tracing::debug!(id, "lease expired");
            Ok(())
        }
        Err(Refusal::LeaseNotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

fn tls(tls: Option<&Tls>, policy: &Policy, alpn: &[&str]) -> Result<Option<Arc<ServerConfig>>> {
    let Some(tls) = tls else {
        return Ok(None);
    };
    let cert = ReloadingCert::load(&tls.cert, &tls.key)?;
    let clients = match &tls.ca {
        Some(ca) => match &tls.crl {
            Some(crl) => ClientAuth::Unrevoked { ca, crl },
            None => ClientAuth::Required(ca),
        },
        None => ClientAuth::None,
    };
    let server = daemon::tls::server_config_under(policy, cert, clients, alpn)?;
    Ok(Some(Arc::new(server)))
}

/// A member shows the same certificate whether it calls or is called.
fn peer_client_tls(tls: Option<&Tls>, policy: &Policy) -> Result<Option<Arc<ClientConfig>>> {
    let Some(tls) = tls else {
        return Ok(None);
    };
    let ca = tls.ca.as_ref().context("--peer-trusted-ca-file is missing")?;
    let identity = ReloadingCert::load(&tls.cert, &tls.key)?;
    let mut client = daemon::tls::client_config_under(policy, ca, Some(identity))?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(Arc::new(client)))
}

/// `only` is the name that certificates must have.
fn reserve(endpoints: &[Endpoint]) -> Result<Vec<(Endpoint, Reserved)>> {
    endpoints.iter().map(|endpoint| Ok((*endpoint, Reserved::new(endpoint.address)?))).collect()
}

fn listen(
    reserved: Vec<(Endpoint, Reserved)>,
    tls: Option<&Arc<ServerConfig>>,
    names: &Names,
) -> Result<Vec<Listener>> {
    let listeners = reserved.into_iter().map(|(endpoint, reserved)| {
        let tls = tls.filter(|_| endpoint.tls).cloned();
        Ok(Listener { listener: reserved.listen()?, tls, names: names.clone() })
    });
    listeners.collect()
}
