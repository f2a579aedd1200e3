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
use crate::pods::entry::OWN_CONDITIONS;

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
        Ok(taken) => {
            // A server that does not keep what it is told is not told again and again.
            let kept = !says_otherwise(&taken, status);
            *entry.written.lock() = kept.then(|| (status.clone(), version(&taken)));
            Ok(())
        }
        Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409 | 422) => {
            tracing::debug!(pod = entry.uid, refusal.message, "status not written");
            Ok(())
        }
        other => other.map(drop),
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

/// Somebody else has changed what this node had said of the pod.
pub fn was_overwritten(entry: &Entry, status: &PodStatus) -> bool {
    let Some(shown) = shown(entry) else { return false };
    let written = entry.written.lock();
    // What is not newer than our own write only has not been heard of yet.
    let known = written.as_ref().is_some_and(|(last, at)| last == status && version(&shown) > *at);
    known && says_otherwise(&shown, status)
}

/// Compared in what the kubelet says; others add conditions of their own.
fn says_otherwise(shown: &Pod, status: &PodStatus) -> bool {
    let theirs = shown.status.clone().unwrap_or_default();
    let conditions = |status: &PodStatus| -> Vec<(String, String)> {
        let all = status.conditions.iter().flatten();
        let mut own: Vec<_> = all
            .filter(|c| OWN_CONDITIONS.contains(&c.type_.as_str()) && c.type_ != "PodScheduled")
            .map(|c| (c.type_.clone(), c.status.clone()))
            .collect();
        own.sort();
        own
    };
    let rest = |status: &PodStatus| {
        let told = PodStatus {
            phase: status.phase.clone(),
            reason: status.reason.clone(),
            message: status.message.clone(),
            host_ip: status.host_ip.clone(),
            pod_ip: status.pod_ip.clone(),
            pod_ips: status.pod_ips.clone(),
            container_statuses: status.container_statuses.clone(),
            init_container_statuses: status.init_container_statuses.clone(),
            ..PodStatus::default()
        };
        settled(serde_json::to_value(told).unwrap_or_default())
    };
    conditions(&theirs) != conditions(status) || rest(&theirs) != rest(status)
}

/// As the server keeps it: empty is absent, and times have whole seconds.
fn settled(value: Value) -> Value {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| (k, settled(v)))
            .filter(|(_, v)| !empty(v))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => list.into_iter().map(settled).collect(),
        Value::String(text) => match text.parse::<jiff::Timestamp>() {
            Ok(time) => jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string().into(),
            Err(_) => text.into(),
        },
        other => other,
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
    fn what_others_wrote_over_is_noticed() {
        let own: PodStatus = serde_json::from_value(json!({"phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "",
                "state": {"running": {"startedAt": "2026-01-02T03:04:05.6Z"}}}]}))
        .expect("a status");
        let entry = |version: &str, change: fn(&mut Value)| {
            let mut status = serde_json::to_value(&own).expect("encodes");
            status["conditions"].as_array_mut().expect("a list").push(json!({"type": "gate", "status": "True"}));
            status["containerStatuses"][0]["state"]["running"]["startedAt"] = "2026-01-02T03:04:05Z".into();
            change(&mut status);
            let pod = json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": version}, "status": status});
            let entry = Entry::new(Arc::new(serde_json::from_value(pod).expect("a pod")));
            *entry.written.lock() = Some((own.clone(), 7));
            entry
        };
        let check = |version: &str, change: fn(&mut Value), expected: bool| {
            assert_eq!(was_overwritten(&entry(version, change), &own), expected);
        };
        check("8", |_| {}, false);
        check("8", |status| status["phase"] = "Pending".into(), true);
        check("7", |status| status["phase"] = "Pending".into(), false);
        check("8", |status| status["conditions"][0]["status"] = "False".into(), true);
        check("8", |status| status["containerStatuses"][0]["ready"] = false.into(), true);
    }

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
