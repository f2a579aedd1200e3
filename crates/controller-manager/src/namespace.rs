//! Empties namespaces that are being deleted, kind by kind as discovery lists them, and lets them go.

use std::sync::Arc;
use std::time::Duration;

use client::kube::{self, Client};
use client::queue::Outcome;
use client::{Change, Key};
use controllers::Plan;
use controllers::meta::Meta;
use controllers::namespace::{Findings, needs_finalizing, plan};
use controllers::plan::{Propagation, Target, Verb};
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde::Deserialize;

use crate::discovery::{self, Discovered, Served, discover};
use crate::executor::Executor;
use crate::informers::{Caches, Informers};
use crate::request;
use crate::work::Work;

/// While something remains the namespace is looked at again: often at first, then every so often.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The Accept header that asks for metadata only.
const PARTIAL: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

pub struct Namespaces {
    pub executor: Executor,
    pub caches: Caches,
}

/// Only what the findings need of a list.
#[derive(Deserialize)]
struct Listed {
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
}

#[derive(Deserialize)]
struct ItemMeta {
    #[serde(default)]
    finalizers: Vec<String>,
}

/// Namespaces wake themselves; the end of a pod wakes its namespace, which may have waited for it.
pub fn watch(informers: &mut Informers, caches: &Caches, work: &Work) {
    let waker = work.clone();
    informers.namespaces.on_change(move |change| {
        if change.object().deleting() && !matches!(change, Change::Deleted(_)) {
            waker.add(Key::of(change.object().as_ref()));
        }
    });
    let (namespaces, waker) = (caches.namespaces.clone(), work.clone());
    informers.pods.on_change(move |change| {
        let Change::Deleted(pod) = change else { return };
        let key = Key::new("", pod.namespace());
        if namespaces.get(&key).is_some_and(|namespace| namespace.deleting()) {
            waker.add(key);
        }
    });
}

impl Namespaces {
    pub async fn sync(self: Arc<Self>, key: Key) -> Outcome {
        let Some(namespace) = self.caches.namespaces.get(&key).filter(|namespace| needs_finalizing(namespace)) else {
            return Outcome::Done;
        };
        let now = Timestamp::now();
        let findings = match discover(self.executor.client()).await {
            Ok(discovered) => self.empty(&key.name, &discovered).await,
            Err(error) => Findings { discovery_error: Some(error.to_string()), ..Findings::default() },
        };
        self.conclude(&namespace, &findings, now).await
    }

    async fn conclude(&self, namespace: &Namespace, findings: &Findings, now: Timestamp) -> Outcome {
        let plan: Plan = plan(namespace, findings, now);
        let done = self.executor.execute(&plan).await;
        if let Some(error) = done.error {
            tracing::debug!(namespace = namespace.name(), error = ?error, "namespace not updated");
            return Outcome::Retry;
        }
        if findings.is_empty() { Outcome::Done } else { Outcome::After(wait(namespace, now)) }
    }

    async fn empty(&self, namespace: &str, discovered: &Discovered) -> Findings {
        let errors = &discovered.errors;
        let mut findings = Findings {
            discovery_error: (!errors.is_empty())
                .then(|| format!("Discovery failed for some groups: {}", errors.join(", "))),
            ..Findings::default()
        };
        let wanted = |served: &&Served| served.namespaced && served.can(&["list", "delete"]);
        let mut failures = Vec::new();
        for served in discovered.kinds.values().filter(wanted) {
            if let Err(error) = self.empty_kind(namespace, served, &mut findings).await {
                failures.push(format!("{}: {error}", discovery::name(&served.kind)));
            }
        }
        findings.delete_error = (!failures.is_empty()).then(|| failures.join(", "));
        findings
    }

    /// Looks first: most kinds have nothing here, and a list that finds nothing costs less than a deletion.
    async fn empty_kind(&self, namespace: &str, served: &Served, findings: &mut Findings) -> Result<(), kube::Error> {
        let collection =
            Target { kind: served.kind.clone(), namespace: Some(namespace.to_owned()), name: String::new() };
        let client = self.executor.client();
        if list(client, &collection).await?.is_empty() {
            return Ok(());
        }
        if served.can(&["deletecollection"]) {
            let request = request::build(&collection, &delete_all()).map_err(kube::Error::HttpError)?;
            client.request::<serde_json::Value>(request).await?;
        }
        let remaining = list(client, &collection).await?;
        if !remaining.is_empty() {
            findings.remaining.insert(discovery::name(&served.kind), remaining.len());
        }
        for finalizer in remaining.into_iter().flat_map(|item| item.metadata.finalizers) {
            *findings.finalizers.entry(finalizer).or_default() += 1;
        }
        Ok(())
    }
}

fn delete_all() -> Verb {
    Verb::Delete {
        uid: None,
        resource_version: None,
        propagation: Some(Propagation::Background),
        grace_period_seconds: None,
    }
}

async fn list(client: &Client, collection: &Target) -> Result<Vec<Item>, kube::Error> {
    let request = Request::get(request::path(collection, None))
        .header(http::header::ACCEPT, PARTIAL)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    match client.request::<Listed>(request).await {
        Ok(listed) => Ok(listed.items.unwrap_or_default()),
        // Gone since it was discovered.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A quarter of how long it has been going on already.
fn wait(namespace: &Namespace, now: Timestamp) -> Duration {
    let since = namespace.meta().deletion_timestamp.as_ref().map_or(now, |time| time.0);
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    (age / 4).clamp(FIRST_WAIT, LONGEST_WAIT)
}
