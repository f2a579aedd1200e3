//! ServiceAccount: a pod runs as some account, and gets a token of it mounted unless it or the account declines.

use std::time::Duration;

use api::{ApiError, meta, names};
use serde_json::{Value, json};

use super::{Attributes, Operation};

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The extra seven seconds tell tokens of this volume from others.
const TOKEN_SECONDS: i64 = 3607;
/// The controller may still be making the default account of a new namespace.
const DEFAULT_WAIT: Duration = Duration::from_secs(2);

pub async fn admit(a: &Attributes<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let updates_ephemeral = a.operation == Operation::Update && a.subresource == "ephemeralcontainers";
    if updates_ephemeral || !a.is(Operation::Create, "pods") || !pod.get("spec").is_some_and(Value::is_object) {
        return Ok(());
    }
    if meta::annotation(pod, MIRROR).is_some() {
        return Ok(());
    }
    let given = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or_default();
    let name = if given.is_empty() { DEFAULT.to_owned() } else { given.to_owned() };
    let account = find(a, pod, &name).await?;
    pod["spec"]["serviceAccountName"] = name.as_str().into();
    pod["spec"]["serviceAccount"] = name.as_str().into();
    if automounts(pod, &account) {
        mount(pod, rand::random());
    }
    let has_secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array).is_some_and(|s| !s.is_empty());
    if let (false, Some(secrets)) = (has_secrets, account.get("imagePullSecrets").filter(|s| !s.is_null())) {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

async fn find(a: &Attributes<'_>, pod: &Value, name: &str) -> Result<Value, ApiError> {
    let namespace = meta::namespace(pod);
    let key = format!("{namespace}/{name}");
    let cache = a.api.builtin("serviceaccounts");
    a.api.caches.own_writes(cache).await?;
    if let Some(found) = cache.get(&key) {
        return Ok(found.value());
    }
    a.api.caches.fresh().await?;
    let mut changed = cache.subscribe();
    let wait = if name == DEFAULT { DEFAULT_WAIT } else { Duration::ZERO };
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        if let Some(found) = cache.get(&key) {
            return Ok(found.value());
        }
        if !matches!(tokio::time::timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
            let why = format!("error looking up service account {key}: serviceaccount {name:?} not found");
            return Err(a.refuse(meta::name(pod), &why));
        }
    }
}

fn automounts(pod: &Value, account: &Value) -> bool {
    let says = |v: Option<&Value>| v.and_then(Value::as_bool);
    says(pod.pointer("/spec/automountServiceAccountToken"))
        .or_else(|| says(account.get("automountServiceAccountToken")))
        .unwrap_or(true)
}

/// Adds the volume, and a mount of it to every container that has none at that path.
fn mount(pod: &mut Value, seed: u64) {
    let volume = existing_volume(pod).unwrap_or_else(|| names::generate("kube-api-access-", seed));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|c| c.is_object()) {
            let mounts = container.get("volumeMounts").and_then(Value::as_array).cloned().unwrap_or_default();
            if mounts.iter().any(|m| m["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let own = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
            container["volumeMounts"] = mounts.into_iter().chain([own]).collect();
            used = true;
        }
    }
    if used && existing_volume(pod).is_none() {
        let volumes = pod["spec"].get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        pod["spec"]["volumes"] = volumes.into_iter().chain([token_volume(&volume)]).collect();
    }
}

fn existing_volume(pod: &Value) -> Option<String> {
    let volumes = pod.pointer("/spec/volumes")?.as_array()?;
    let names = volumes.iter().filter_map(|v| v["name"].as_str());
    names.into_iter().find(|n| n.starts_with("kube-api-access-")).map(str::to_owned)
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_mounted_where_there_is_none() {
        let own = json!([{"name": "own", "mountPath": MOUNT_PATH}]);
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": own}]}});
        mount(&mut pod, 1);
        let volume = pod["spec"]["volumes"][0]["name"].as_str().expect("a volume").to_owned();
        assert!(volume.starts_with("kube-api-access-") && volume.len() == "kube-api-access-".len() + 5, "{volume}");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"], own);
        let once = pod.clone();
        mount(&mut pod, 2);
        assert_eq!(pod, once);
    }

    #[test]
    fn the_pod_decides_before_the_account() {
        let check = |pod: Value, account: Value, expected| assert_eq!(automounts(&pod, &account), expected);
        check(json!({}), json!({}), true);
        check(json!({}), json!({"automountServiceAccountToken": false}), false);
        check(
            json!({"spec": {"automountServiceAccountToken": true}}),
            json!({"automountServiceAccountToken": false}),
            true,
        );
    }
}
