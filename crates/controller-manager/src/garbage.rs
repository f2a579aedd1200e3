//! Collects garbage: watches the metadata of everything that can be deleted, and does what the ownership graph says.
//!
//! Work starts once every kind known at that time has been listed, so that an owner is not taken for absent because
//! its list was late. An owner the graph does not know is looked up live, by uid.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::kube::api::{Api, ApiResource, DynamicObject};
use client::kube::core::PartialObjectMeta;
use client::kube::runtime::{WatchStreamExt, watcher};
use client::queue::Outcome;
use controllers::garbage::{Graph, Node, OwnerState, Uid};
use controllers::plan::{Kind, Target};
use daemon::CancellationToken;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::discovery::Discovered;
use crate::executor::Executor;
use crate::request;
use crate::work::Work;

/// Neither owned nor owners, and many.
const IGNORED: [&str; 2] = ["events.", "events.events.k8s.io"];
/// A live look that found the owner there is trusted this long: its deletion would be heard of later.
const LATER: Duration = Duration::from_secs(30);

pub struct Collector {
    executor: Executor,
    work: Work,
    graph: Mutex<Graph>,
    discovered: RwLock<Discovered>,
    watched: Mutex<HashMap<String, watch::Receiver<bool>>>,
    /// Rung when kinds may have come or gone.
    rediscover: Arc<Notify>,
}

impl Collector {
    pub fn new(executor: Executor, work: Work, rediscover: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            executor,
            work,
            graph: Mutex::default(),
            discovered: RwLock::default(),
            watched: Mutex::default(),
            rediscover,
        })
    }

    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Watches kinds that are new in discovery.
    pub fn follow(self: &Arc<Self>, discovered: Discovered, token: &CancellationToken) {
        let collectable = discovered
            .kinds
            .iter()
            .filter(|(name, served)| served.can(&["list", "watch", "delete"]) && !IGNORED.contains(&name.as_str()));
        let mut watched = self.watched.lock();
        for (name, served) in collectable {
            watched.entry(name.clone()).or_insert_with(|| {
                let (sender, receiver) = watch::channel(false);
                let (this, kind, token) = (self.clone(), served.kind.clone(), token.clone());
                tokio::spawn(async move {
                    tokio::select! { () = token.cancelled() => {}, () = this.watch(kind, &sender) => {} }
                });
                receiver
            });
        }
        drop(watched);
        *self.discovered.write() = discovered;
    }

    /// Waits until every kind watched now has been listed.
    pub async fn synced(&self) {
        let receivers: Vec<watch::Receiver<bool>> = self.watched.lock().values().cloned().collect();
        for mut receiver in receivers {
            // An error means that the watch ended: nothing more will come.
            let _ = receiver.wait_for(|synced| *synced).await;
        }
    }

    async fn watch(&self, kind: Kind, synced: &watch::Sender<bool>) {
        let resource = ApiResource {
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            api_version: kind.api_version(),
            kind: kind.kind.to_string(),
            plural: kind.plural.to_string(),
        };
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.executor.client().clone(), &resource);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut seen = Seen::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if self.step(&kind, event, &mut seen) {
                        synced.send_replace(true);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, kind = %kind.plural, "metadata watch interrupted");
                    // A kind that is no longer served must not hold up the others.
                    if matches!(&error, watcher::Error::InitialListFailed(client::kube::Error::Api(status)) if status.code == 404)
                    {
                        synced.send_replace(true);
                    }
                }
            }
        }
    }

    fn step(&self, kind: &Kind, event: watcher::Event<PartialObjectMeta<DynamicObject>>, seen: &mut Seen) -> bool {
        match event {
            watcher::Event::Init => seen.fresh.clear(),
            watcher::Event::InitApply(object) => {
                let uid = self.observe(kind, &object);
                seen.fresh.insert(uid.clone());
                seen.all.insert(uid);
            }
            watcher::Event::Apply(object) => {
                let uid = self.observe(kind, &object);
                seen.all.insert(uid);
            }
            watcher::Event::Delete(object) => {
                let uid = object.metadata.uid.unwrap_or_default();
                seen.all.remove(&uid);
                self.remove(kind, &uid);
            }
            watcher::Event::InitDone => {
                let fresh = std::mem::take(&mut seen.fresh);
                let gone: Vec<Uid> = seen.all.difference(&fresh).cloned().collect();
                gone.iter().for_each(|uid| self.remove(kind, uid));
                seen.all = fresh;
                return true;
            }
        }
        false
    }

    fn observe(&self, kind: &Kind, object: &PartialObjectMeta<DynamicObject>) -> Uid {
        let node = Node::new(kind, &object.metadata);
        let uid = node.uid.clone();
        let woken = {
            let mut graph = self.graph.lock();
            let new = graph.node(&uid).is_none();
            let woken = graph.observe(node);
            (woken, new)
        };
        self.wake(woken.0);
        if woken.1 {
            self.note_kinds(kind);
        }
        uid
    }

    fn remove(&self, kind: &Kind, uid: &str) {
        let woken = self.graph.lock().remove(uid);
        self.wake(woken);
        self.note_kinds(kind);
    }

    fn note_kinds(&self, kind: &Kind) {
        if matches!(&*kind.kind, "CustomResourceDefinition" | "APIService") {
            self.rediscover.notify_one();
        }
    }

    fn wake(&self, uids: Vec<Uid>) {
        uids.into_iter().for_each(|uid| self.work.add(client::Key::new("", &uid)));
    }

    pub async fn sync(self: Arc<Self>, key: client::Key) -> Outcome {
        let uid = key.name;
        let unknown = {
            let graph = self.graph.lock();
            let Some(node) = graph.node(&uid) else { return Outcome::Done };
            let unknown = |owner: &&OwnerReference| graph.owner_state(node, owner) == OwnerState::Unknown;
            (node.clone(), node.owners.iter().filter(unknown).cloned().collect::<Vec<_>>())
        };
        let (node, owners) = unknown;
        let mut looked: HashMap<Uid, OwnerState> = HashMap::new();
        for owner in owners {
            match self.look(&node, &owner).await {
                Ok(state) => drop(looked.insert(owner.uid.clone(), state)),
                Err(error) => {
                    tracing::debug!(%error, owner = owner.name, kind = owner.kind, "owner not found out");
                    return Outcome::Retry;
                }
            }
        }
        let (plan, next) = {
            let graph = self.graph.lock();
            let state = |owner: &OwnerReference| match graph.owner_state(&node, owner) {
                OwnerState::Unknown => looked.get(&owner.uid).copied().unwrap_or(OwnerState::Unknown),
                known => known,
            };
            graph.plan(&uid, &state)
        };
        self.wake(next);
        let done = self.executor.execute(&plan).await;
        match done.error {
            Some(error) => {
                tracing::debug!(error = ?error, "garbage not collected");
                Outcome::Retry
            }
            None if looked.values().any(|state| *state == OwnerState::Present) && plan.ops.is_empty() => {
                Outcome::After(LATER)
            }
            None => Outcome::Done,
        }
    }

    /// Whether an owner the graph does not know exists, with that very uid.
    async fn look(&self, dependent: &Node, owner: &OwnerReference) -> Result<OwnerState, LookError> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let (kind, namespaced) = {
            let discovered = self.discovered.read();
            let Some(served) = discovered.by_kind(group, &owner.kind) else {
                self.rediscover.notify_one();
                return Err(LookError::UnknownKind(format!("{}.{group}", owner.kind)));
            };
            (served.kind.clone(), served.namespaced)
        };
        let namespace = dependent.target.namespace.clone().filter(|_| namespaced);
        if namespaced && namespace.is_none() {
            // A cluster-scoped object cannot be owned by a namespaced one; such a reference is never resolved.
            return Ok(OwnerState::Present);
        }
        let target = Target { kind, namespace, name: owner.name.clone() };
        let Some(found) = request::get(self.executor.client(), &target).await? else { return Ok(OwnerState::Absent) };
        let meta = &found["metadata"];
        if meta["uid"] != owner.uid {
            return Ok(OwnerState::Absent);
        }
        let finalizers = meta["finalizers"].as_array().into_iter().flatten();
        let waits = !meta["deletionTimestamp"].is_null()
            && finalizers.into_iter().any(|finalizer| finalizer == controllers::garbage::FOREGROUND);
        Ok(if waits { OwnerState::Waiting } else { OwnerState::Present })
    }
}

/// Uids of one kind, to find out after a re-list what went meanwhile.
#[derive(Default)]
struct Seen {
    all: HashSet<Uid>,
    fresh: HashSet<Uid>,
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("no kind {0} is served")]
    UnknownKind(String),
    #[error("cannot read the owner")]
    Read(#[from] client::kube::Error),
}
