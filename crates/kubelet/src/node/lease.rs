//! The heartbeat: this node's Lease in kube-node-lease, renewed four times per duration.

use std::sync::Arc;
use std::time::Duration;

use daemon::CancellationToken;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, PostParams};

use crate::context::Context;

const NAMESPACE: &str = "kube-node-lease";
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(7);

pub async fn run(ctx: Arc<Context>, client: kube::Client, token: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let seconds = ctx.settings.config.node_lease_duration_seconds;
    let period = Duration::from_secs(u64::from(seconds.unsigned_abs())) / 4;
    let beat = async {
        let mut held: Option<Lease> = None;
        let mut retry = RETRY_FIRST;
        loop {
            match renew(&ctx, &api, held.take(), seconds).await {
                Ok(lease) => {
                    held = Some(lease);
                    retry = RETRY_FIRST;
                    tokio::time::sleep(period).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "lease not renewed");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MOST);
                }
            }
        }
    };
    tokio::select! { () = token.cancelled() => {}, () = beat => {} }
}

async fn renew(ctx: &Context, api: &Api<Lease>, held: Option<Lease>, seconds: i32) -> kube::Result<Lease> {
    let name = &ctx.settings.node_name;
    let found = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let fresh = found.is_none();
    let mut lease = found.unwrap_or_default();
    lease.metadata.name = Some(name.clone());
    lease.metadata.namespace = Some(NAMESPACE.into());
    if lease.metadata.owner_references.is_none() {
        lease.metadata.owner_references = owner(ctx);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = Some(seconds);
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    if fresh {
        api.create(&PostParams::default(), &lease).await
    } else {
        api.replace(name, &PostParams::default(), &lease).await
    }
}

/// So that it goes with the node.
fn owner(ctx: &Context) -> Option<Vec<OwnerReference>> {
    let node = ctx.node.read().clone()?;
    Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        ..OwnerReference::default()
    }])
}
