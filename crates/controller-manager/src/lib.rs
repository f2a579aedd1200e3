//! `kube-controller-manager`: informers in, one executor out.
//!
//! The decisions are in the `controllers` crate. Here is what surrounds them: one informer per kind, queues of keys,
//! the executor that turns plans into requests, leader election, and the two controllers that need discovery.

mod controllers;
mod discovery;
mod executor;
mod expectations;
pub mod flags;
mod garbage;
mod index;
mod informers;
mod manager;
mod namespace;
mod request;
mod serving;
mod signer;
mod work;

use std::sync::Arc;

use anyhow::bail;
use client::leader::{self, Election};
use daemon::CancellationToken;
use daemon::health::Health;

use crate::flags::{Args, Flags};
use crate::manager::Manager;

/// Runs until the token is cancelled; losing leadership is an error, so that the process is started afresh.
pub async fn run(args: Args, token: CancellationToken) -> anyhow::Result<()> {
    let flags = Arc::new(Flags::check(args, &manager::names())?);
    let client = client::connect(&flags.kubeconfig, "kube-controller-manager")?;
    let health = Health::new();
    serving::start(&flags, &health, &token).await?;
    let manager = Manager::new(client.clone(), flags.clone(), &health);
    daemon::notify::ready();
    if !flags.leader_elect {
        manager.run(token).await;
        return Ok(());
    }
    let lost = leader::run(client, election(&flags), token, |leading| manager.run(leading)).await;
    if lost {
        bail!("leaderelection lost");
    }
    Ok(())
}

fn election(flags: &Flags) -> Election {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}_{}", host.trim(), uuid::Uuid::new_v4());
    Election {
        namespace: flags.leader_elect_resource_namespace.clone(),
        lease_duration: flags.leader_elect_lease_duration,
        renew_deadline: flags.leader_elect_renew_deadline,
        retry_period: flags.leader_elect_retry_period,
        ..Election::new(&flags.leader_elect_resource_name, identity)
    }
}
