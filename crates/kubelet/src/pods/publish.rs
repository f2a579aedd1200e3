//! Writes a pod's status to the API server, newest state first, older ones dropped.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodIP, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use podsync::pod as spec;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::context::Context;
use crate::pods::Entry;

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// The object that shows this pod at the API server, if there is one.
pub fn shown(entry: &Entry) -> Option<Arc<Pod>> {
    let desired = entry.desired();
    if spec::is_static(&desired.pod) { desired.mirror } else { Some(desired.pod) }
}

/// Runs as long as the sender lives.
pub async fn run(ctx: Arc<Context>, entry: Arc<Entry>, mut states: watch::Receiver<Option<PodStatus>>) {
    let mut pause = RETRY_FIRST;
    while states.changed().await.is_ok() {
        loop {
            let Some(status) = states.borrow_and_update().clone() else { break };
            match write(&ctx, &entry, &status).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, pod = entry.uid, "cannot write the pod's status");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MOST);
                }
            }
        }
        pause = RETRY_FIRST;
    }
}

/// An object that is gone, or another one by that name, is nothing left to write to.
pub async fn write(ctx: &Context, entry: &Entry, status: &PodStatus) -> kube::Result<()> {
    let (Some(client), Some(pod)) = (&ctx.api, shown(entry)) else { return Ok(()) };
    let api: Api<Pod> = Api::namespaced(client.clone(), spec::namespace(&pod));
    let patch = Patch::Strategic(patch(&pod, status));
    match api.patch_status(spec::name(&pod), &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409 | 422) => {
            tracing::debug!(pod = entry.uid, refusal.message, "status not written");
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Unset fields are spelled out as null, and addresses that went away as deletions: a strategic
/// merge leaves alone whatever it is not told about.
fn patch(pod: &Pod, status: &PodStatus) -> Value {
    let mut body = serde_json::to_value(status).unwrap_or_default();
    for field in ["reason", "message", "podIP", "initContainerStatuses", "ephemeralContainerStatuses"] {
        if body.get(field).is_none() {
            body[field] = Value::Null;
        }
    }
    for condition in body["conditions"].as_array_mut().into_iter().flatten() {
        for field in ["reason", "message"] {
            if condition.get(field).is_none() {
                condition[field] = Value::Null;
            }
        }
    }
    let now: Vec<PodIP> = status.pod_ips.clone().unwrap_or_default();
    let before = pod.status.as_ref().and_then(|s| s.pod_ips.clone()).unwrap_or_default();
    let gone = before.into_iter().filter(|old| !now.contains(old));
    let deletions: Vec<Value> = gone.map(|old| json!({"$patch": "delete", "ip": old.ip})).collect();
    if !deletions.is_empty() {
        let mut list = body["podIPs"].as_array().cloned().unwrap_or_default();
        list.extend(deletions);
        body["podIPs"] = Value::Array(list);
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": body})
}

/// The last step of a deletion: nothing of the pod is left here, so the object may go.
pub async fn delete(ctx: &Context, pod: &Pod) -> kube::Result<()> {
    let Some(client) = &ctx.api else { return Ok(()) };
    let api: Api<Pod> = Api::namespaced(client.clone(), spec::namespace(pod));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(spec::name(pod), &params).await {
        Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_away_is_said() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
            "status": {"podIPs": [{"ip": "10.0.0.1"}]}}))
        .expect("a pod");
        let status: PodStatus = serde_json::from_value(json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [{"type": "Ready", "status": "True"}]}))
        .expect("a status");
        let body = patch(&pod, &status);
        assert_eq!(body["metadata"]["uid"], "u");
        assert_eq!(body["status"]["podIPs"], json!([{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}]));
        assert_eq!(body["status"]["conditions"][0]["reason"], Value::Null);
        assert!(body["status"].as_object().is_some_and(|s| s.get("reason").is_some_and(Value::is_null)));
    }
}
