//! Mirror pods: objects at the API server that show static pods, made and removed by this node.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};
use podsync::{labels, pod as spec};

use crate::context::Context;
use crate::pods::{Entry, publish};

const RETRY: Duration = Duration::from_secs(5);

fn hash(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(labels::CONFIG_HASH)
}

fn mirrored_hash(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(labels::CONFIG_MIRROR)
}

/// The object for a static pod.
fn mirror_of(pod: &Pod, node: Option<&k8s_openapi::api::core::v1::Node>) -> Pod {
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    mirror.status = None;
    let hash = hash(pod).cloned().unwrap_or_default();
    mirror.metadata.annotations.get_or_insert_default().insert(labels::CONFIG_MIRROR.into(), hash);
    mirror.metadata.owner_references = node.map(|node| {
        vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.metadata.name.clone().unwrap_or_default(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    mirror
}

/// Makes the mirror in the background if there is none, replaces one of another definition.
pub fn ensure(ctx: &Arc<Context>, entry: &Arc<Entry>) {
    let Some(client) = ctx.api.clone() else { return };
    let (ctx, entry) = (ctx.clone(), entry.clone());
    tokio::spawn(async move {
        loop {
            let desired = entry.desired();
            if desired.removed {
                return;
            }
            let outcome: kube::Result<()> = match &desired.mirror {
                Some(mirror)
                    if mirrored_hash(mirror) == hash(&desired.pod) && mirror.metadata.deletion_timestamp.is_none() =>
                {
                    return;
                }
                // Its deletion comes back by the watch, and then the new one is made.
                Some(old) => match publish::delete(&ctx, old).await {
                    Ok(()) => return,
                    Err(error) => Err(error),
                },
                None => {
                    let mirror = mirror_of(&desired.pod, ctx.node.read().as_deref());
                    let api: Api<Pod> = Api::namespaced(client.clone(), spec::namespace(&mirror));
                    match api.create(&PostParams::default(), &mirror).await {
                        Ok(made) => {
                            entry.update(|desired| desired.mirror = Some(Arc::new(made)));
                            return;
                        }
                        // The watch has not brought it yet, or the namespace is still missing.
                        Err(error) => Err(error),
                    }
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, pod = entry.uid, "mirror pod not made yet");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
}

/// A mirror whose static pod is gone.
pub fn remove(ctx: &Arc<Context>, pod: &Arc<Pod>) {
    let (ctx, pod) = (ctx.clone(), pod.clone());
    tokio::spawn(async move {
        if let Err(error) = publish::delete(&ctx, &pod).await {
            tracing::warn!(%error, pod = spec::name(&pod), "cannot remove a mirror pod");
        }
    });
}
