//! What the server itself keeps in the cluster: the system namespaces, the system priority classes, the services' range, and the
//! `kubernetes` service with the endpoints that lead back here.

use std::time::Duration;

use api::{ApiError, meta};
use daemon::CancellationToken;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::addresses;
use crate::authn::User;
use crate::rest::create;
use crate::rest::update::{self, Owns, Rules, Target};
use crate::rest::write::{self, Writer};
use crate::state::Api;

const NAMESPACES: &[&str] = &["kube-system", "kube-public", "kube-node-lease", "default"];
/// Somebody may have removed the endpoints; upstream looks as often.
const INTERVAL: Duration = Duration::from_secs(10);
/// As upstream.
const REPAIR_INTERVAL: Duration = Duration::from_secs(180);

/// Makes what is missing, once, at start.
pub async fn bootstrap(api: &Api) -> Result<(), ApiError> {
    for namespace in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        ensure(api, ("", "v1", "namespaces"), object, &|old, _| old.clone()).await?;
    }
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": addresses::DEFAULT_RANGE},
        "spec": {"cidrs": [api.config.service_range.to_string()]},
    });
    ensure(api, ("networking.k8s.io", "v1", "servicecidrs"), range, &|old, _| old.clone()).await?;
    addresses::repair(api).await?;
    for (name, value, what) in [
        (
            "system-node-critical",
            2_000_001_000_i64,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ] {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "description": what, "preemptionPolicy": "PreemptLowerPriority",
        });
        ensure(api, ("scheduling.k8s.io", "v1", "priorityclasses"), class, &|old, _| old.clone()).await?;
    }
    Ok(())
}

/// Keeps what is written down of services' addresses as it should be.
pub async fn keep_addresses(api: &Api, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(REPAIR_INTERVAL)).await.is_some() {
        if let Err(error) = addresses::repair(api).await {
            tracing::warn!(%error, "comparing services with their addresses");
        }
    }
}

/// Keeps the `kubernetes` service and its endpoints as they should be.
pub async fn keep(api: &Api, stop: CancellationToken) {
    loop {
        if let Err(error) = reconcile(api).await {
            tracing::warn!(%error, "keeping the kubernetes service");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

pub async fn reconcile(api: &Api) -> Result<(), ApiError> {
    let (address, port) = (api.config.advertise.to_string(), api.config.bind.port());
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "sessionAffinity": "None", "clusterIP": api.services.kubernetes_ip().to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
        },
    });
    ensure(api, ("", "v1", "services"), service, &|old, wanted| with(old, wanted, &["/spec/ports"])).await?;
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    ensure(api, ("", "v1", "endpoints"), endpoints, &|old, wanted| with(old, wanted, &["/subsets"])).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if api.config.advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let fields = ["/endpoints", "/ports"];
    ensure(api, ("discovery.k8s.io", "v1", "endpointslices"), slice, &|old, wanted| with(old, wanted, &fields)).await
}

/// The old object with some fields as wanted.
fn with(old: &Value, wanted: &Value, pointers: &[&str]) -> Value {
    let mut new = old.clone();
    for pointer in pointers {
        let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
        if let (Some(wanted), Some(parent)) = (wanted.pointer(pointer), new.pointer_mut(parent)) {
            parent[field] = wanted.clone();
        }
    }
    new
}

async fn ensure(
    api: &Api,
    (group, version, plural): (&str, &str, &str),
    wanted: Value,
    change: &(dyn Fn(&Value, &Value) -> Value + Send + Sync),
) -> Result<(), ApiError> {
    let kind = api.kind(group, version, plural);
    let (namespace, name) = (meta::namespace(&wanted).to_owned(), meta::name(&wanted).to_owned());
    let user = User::loopback();
    let writer = Writer { user: &user, now: Timestamp::now(), dry_run: false, request: None };
    if write::current(api, kind, &namespace, &name).await?.is_none() {
        return match create::new_object(api, kind, &writer, wanted).await {
            Err(error) if error.reason() != "AlreadyExists" => Err(error),
            _ => Ok(()),
        };
    }
    let target = Target {
        kind,
        namespace: &namespace,
        name: &name,
        subresource: "",
        rules: Rules::Main,
        conditional: false,
        owns: Owns::Changes,
    };
    update::update(api, &writer, &target, &|old| {
        let mut new = change(old, &wanted);
        kind.strategy.default(&mut new).map_err(|e| crate::rest::decode::misfit(&kind.row, &e))?;
        Ok(new)
    })
    .await
    .map(drop)
}
