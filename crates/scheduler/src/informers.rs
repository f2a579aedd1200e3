//! What is watched, and how each change reaches the core. Handlers only lock and apply; they never wait.

use std::sync::Arc;
use std::time::Instant;

use client::{Change, Informer};
use daemon::CancellationToken;
use kube::runtime::watcher;
use kube::{Api, Resource};
use scheduling::pod::Owner;

use crate::objects::{
    DisruptionBudget, Namespace, Node, Pod, Reduced, ReplicaSet, ReplicationController, Service, StatefulSet, Watched,
    Workload,
};
use crate::scheduler::Shared;

/// Pods that have ended hold nothing; the API server leaves them out.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The copies that must be complete before the first decision.
pub struct Informers {
    synced: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Informers {
    pub async fn synced(self) {
        futures::future::join_all(self.synced).await;
    }
}

struct Starter<'a> {
    client: &'a kube::Client,
    shared: &'a Arc<Shared>,
    token: &'a CancellationToken,
}

impl Starter<'_> {
    fn start<T: Reduced>(
        &self,
        config: watcher::Config,
        apply: impl Fn(&Shared, &Change<Watched<T>>) + Send + Sync + 'static,
    ) -> Informer<Watched<T>> {
        let api = Api::all_with(self.client.clone(), &());
        let shared = self.shared.clone();
        let builder = Informer::builder(api, config).on_change(move |change| {
            apply(&shared, change);
            shared.wake.notify_one();
        });
        builder.start(self.token.clone())
    }

    fn workloads<T: Workload>(&self) -> Informer<Watched<T>> {
        self.start::<T>(watcher::Config::default(), |shared, change| {
            let (namespace, name) = key(change);
            let id = (namespace, Owner { kind: T::KIND.into(), name });
            let workloads = &mut shared.core.lock().snapshot.workloads;
            match change {
                Change::Deleted(_) => drop(workloads.remove(&id)),
                Change::Added(new) | Change::Updated { new, .. } => {
                    workloads.insert(id, new.object.selector().clone());
                }
            }
        })
    }
}

/// Starts watching everything a decision depends on. Budgets may not be served yet: nobody waits for them.
pub fn start(client: &kube::Client, shared: &Arc<Shared>, token: &CancellationToken) -> Informers {
    let starter = Starter { client, shared, token };
    let plain = watcher::Config::default;
    let nodes = starter.start::<Node>(plain(), node);
    let pods = starter.start::<Pod>(plain().fields(UNFINISHED), pod);
    let namespaces = starter.start::<Namespace>(plain(), namespace);
    let services = starter.start::<Service>(plain(), service);
    let controllers = starter.workloads::<ReplicationController>();
    let replica_sets = starter.workloads::<ReplicaSet>();
    let stateful_sets = starter.workloads::<StatefulSet>();
    starter.start::<DisruptionBudget>(plain(), budget);
    Informers {
        synced: vec![
            Box::pin(async move { nodes.synced().await }),
            Box::pin(async move { pods.synced().await }),
            Box::pin(async move { namespaces.synced().await }),
            Box::pin(async move { services.synced().await }),
            Box::pin(async move { controllers.synced().await }),
            Box::pin(async move { replica_sets.synced().await }),
            Box::pin(async move { stateful_sets.synced().await }),
        ],
    }
}

fn key<T: Reduced>(change: &Change<Watched<T>>) -> (Box<str>, Box<str>) {
    let meta = change.object().meta();
    let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
    (text(&meta.namespace), text(&meta.name))
}

fn node(shared: &Shared, change: &Change<Watched<Node>>) {
    let mut core = shared.core.lock();
    match change {
        Change::Deleted(old) => core.node_deleted(&old.object.0.name),
        Change::Added(new) | Change::Updated { new, .. } => core.node_changed(&new.object.0, Instant::now()),
    }
}

fn pod(shared: &Shared, change: &Change<Watched<Pod>>) {
    let now = Instant::now();
    let mut core = shared.core.lock();
    match change {
        Change::Added(new) => core.pod_changed(new.object.0.clone(), now),
        Change::Deleted(old) => core.pod_deleted(&old.object.0, now),
        Change::Updated { old, new } => {
            // Deleted and created again under the same name while nobody watched.
            if old.object.0.uid != new.object.0.uid {
                core.pod_deleted(&old.object.0, now);
            }
            core.pod_changed(new.object.0.clone(), now);
        }
    }
}

fn namespace(shared: &Shared, change: &Change<Watched<Namespace>>) {
    let (_, name) = key(change);
    let mut core = shared.core.lock();
    match change {
        Change::Deleted(_) => drop(core.snapshot.namespaces.remove(&name)),
        Change::Added(new) | Change::Updated { new, .. } => {
            core.namespace_changed(&name, &new.object.0, Instant::now());
        }
    }
}

fn service(shared: &Shared, change: &Change<Watched<Service>>) {
    let services = &mut shared.core.lock().snapshot.services;
    match change {
        Change::Deleted(_) => drop(services.remove(&key(change))),
        Change::Added(new) | Change::Updated { new, .. } => drop(services.insert(key(change), new.object.0.clone())),
    }
}

fn budget(shared: &Shared, change: &Change<Watched<DisruptionBudget>>) {
    let budgets = &mut shared.core.lock().snapshot.budgets;
    match change {
        Change::Deleted(_) => drop(budgets.remove(&key(change))),
        Change::Added(new) | Change::Updated { new, .. } => drop(budgets.insert(key(change), new.object.0.clone())),
    }
}
