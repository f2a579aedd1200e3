//! kube-scheduler: informers in, decisions by the pure `scheduling` crate, bindings out.
//!
//! [`core::Core`] holds all state and decides; [`scheduler::run`] drives it; [`writer::Writer`] talks to the API
//! server. Only the leader runs the loop; the informers of a standby are warm.

pub mod config;
pub mod core;
pub mod flags;
pub mod informers;
pub mod metrics;
pub mod objects;
pub mod queue;
pub mod rate;
pub mod scheduler;
pub mod serving;
pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use client::leader::{self, Election};
use daemon::CancellationToken;
use daemon::health::Health;

use crate::config::{Config, LeaderElection};
use crate::core::Core;
use crate::flags::Flags;
use crate::metrics::Metrics;
use crate::rate::Rate;
use crate::scheduler::Shared;
use crate::writer::Writer;

const NAME: &str = "kube-scheduler";

/// Runs until the token is cancelled.
pub async fn run(flags: Flags, config: Config, token: CancellationToken) -> anyhow::Result<()> {
    let kubeconfig = flags.kubeconfig.as_ref().or(config.kubeconfig.as_ref());
    let kubeconfig = kubeconfig.context("no kubeconfig: give --kubeconfig or clientConnection.kubeconfig")?;
    let client = client::connect(kubeconfig, NAME)?;
    let health = Health::new();
    let names = config.profiles.iter().map(|p| &*p.scheduler_name);
    let rate = config.rate.map(|(qps, burst)| Rate::new(qps, burst));
    let writer = Arc::new(Writer::new(client.clone(), names, rate));
    let metrics = Metrics::new(health.metrics());
    let shared = Shared::new(Core::new(config.profiles, config.backoff, rand::random(), metrics.clone()));
    metrics.collect_from(health.metrics(), &shared);
    let seen = shared.clone();
    health.ready("informer-sync", move || if seen.is_synced() { Ok(()) } else { Err("not synced".into()) });
    serving::start(&flags, health, token.clone()).await?;
    daemon::notify::ready();

    let elect = flags.leader_elect.unwrap_or(config.leader_election.leader_elect);
    let worker = Arc::new(Worker { client, shared, writer, token: token.clone(), watching: AtomicBool::new(false) });
    if !elect || !config.delay_cache_until_active {
        worker.watch();
    }
    if elect {
        contend(&worker, &config.leader_election, &token).await;
    } else {
        worker.work(token).await;
    }
    daemon::notify::stopping();
    Ok(())
}

/// Works whenever it holds the lease. Losing it stops the work, not the process: what the informers know stays.
async fn contend(worker: &Arc<Worker>, config: &LeaderElection, token: &CancellationToken) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let election = Election {
        namespace: config.resource_namespace.clone(),
        name: config.resource_name.clone(),
        identity: format!("{}_{:032x}", host.trim(), rand::random::<u128>()),
        lease_duration: config.lease_duration,
        renew_deadline: config.renew_deadline,
        retry_period: config.retry_period,
    };
    while !token.is_cancelled() {
        let (client, worker) = (worker.client.clone(), worker.clone());
        let work = |leading| async move { worker.work(leading).await };
        leader::run(client, election.clone(), token.clone(), work).await;
    }
}

/// What the leader does, and what a standby keeps warm.
struct Worker {
    client: kube::Client,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    token: CancellationToken,
    watching: AtomicBool,
}

impl Worker {
    async fn work(&self, leading: CancellationToken) {
        self.watch();
        tokio::select! { () = self.shared.synced() => {}, () = leading.cancelled() => return }
        scheduler::run(self.shared.clone(), self.writer.clone(), leading).await;
    }

    /// Starts the informers; once.
    fn watch(&self) {
        if self.watching.swap(true, Ordering::AcqRel) {
            return;
        }
        let informers = informers::start(&self.client, &self.shared, &self.token);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            informers.synced().await;
            shared.set_synced();
        });
    }
}
