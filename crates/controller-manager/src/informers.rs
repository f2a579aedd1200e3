//! One informer per kind, shared by all controllers.
//!
//! Handlers are hung on the feeds before anything starts. A kind the API server does not serve has an empty cache and
//! never an event; its feed is started once discovery shows it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use client::kube::api::Api;
use client::kube::runtime::watcher;
use client::kube::{Client, Resource};
use client::{Change, Informer, Key};
use controllers::Kind;
use controllers::meta::Meta;
use daemon::CancellationToken;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolumeClaim, Pod, ReplicationController, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::expectations::Seen;

/// Other Leases are elections and change all the time.
pub const NODE_LEASES: &str = "kube-node-lease";

/// What every kind here is.
pub trait Object:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Resource<DynamicType = ()>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Read access to a kind; empty while the kind is not served.
pub struct Cache<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    informer: OnceLock<Informer<K>>,
    /// The highest resourceVersion any event carried.
    newest: AtomicU64,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K: Object> Cache<K> {
    fn new() -> Self {
        Self { inner: Arc::new(Inner { informer: OnceLock::new(), newest: AtomicU64::new(0) }) }
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inner.informer.get()?.get(key)
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.inner.informer.get().map(Informer::list).unwrap_or_default()
    }

    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.inner.informer.get().map(|informer| informer.list_in(namespace)).unwrap_or_default()
    }

    pub fn is_served(&self) -> bool {
        self.inner.informer.get().is_some()
    }

    fn note(&self, change: &Change<K>) {
        self.inner.newest.fetch_max(version(change.object().as_ref()), Ordering::AcqRel);
    }
}

fn version<K: Meta>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Where a kind's changes come from.
pub struct Feed<K> {
    pub cache: Cache<K>,
    handlers: Vec<Handler<K>>,
    api: fn(&Client) -> Api<K>,
    config: watcher::Config,
}

impl<K: Object> Feed<K> {
    fn new() -> Self {
        Self {
            cache: Cache::new(),
            handlers: Vec::new(),
            api: |client| Api::all(client.clone()),
            config: watcher::Config::default(),
        }
    }

    /// Only objects of this name, in every namespace.
    fn named(name: &str) -> Self {
        Self::selected(&format!("metadata.name={name}"))
    }

    fn selected(fields: &str) -> Self {
        Self { config: watcher::Config::default().fields(fields), ..Self::new() }
    }

    pub fn on_change(&mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.push(Box::new(handler));
    }
}

/// A feed whose kind is forgotten, so that all can be started alike.
trait Startable: Send {
    fn kind(&self) -> Kind;
    fn start(self: Box<Self>, client: &Client, token: &CancellationToken) -> Started;
}

/// Resolves when the first list has arrived.
pub type Started = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl<K: Object> Startable for Feed<K> {
    fn kind(&self) -> Kind {
        Kind::of::<K>()
    }

    fn start(self: Box<Self>, client: &Client, token: &CancellationToken) -> Started {
        let api = (self.api)(client);
        let cache = self.cache.clone();
        let mut builder = Informer::builder(api, self.config).trim(|object: &mut K| {
            <K as k8s_openapi::Metadata>::metadata_mut(object).managed_fields = None;
        });
        let noting = self.cache.clone();
        builder = builder.on_change(move |change| noting.note(change));
        for handler in self.handlers {
            builder = builder.on_change(handler);
        }
        let informer = builder.start(token.clone());
        if cache.inner.informer.set(informer.clone()).is_err() {
            tracing::error!(kind = K::KIND, "informer started twice");
        }
        Box::pin(async move { informer.synced().await })
    }
}

macro_rules! informers {
    ($($field:ident: $kind:ty = $feed:expr,)*) => {
        /// The feeds, before they start.
        pub struct Informers {
            $(pub $field: Feed<$kind>,)*
        }

        /// The caches, for whoever reads.
        #[derive(Clone)]
        pub struct Caches {
            $(pub $field: Cache<$kind>,)*
        }

        impl Default for Informers {
            fn default() -> Self {
                Self { $($field: $feed,)* }
            }
        }

        impl Informers {
            pub fn caches(&self) -> Caches {
                Caches { $($field: self.$field.cache.clone(),)* }
            }

            pub fn into_pending(self) -> Pending {
                Pending { feeds: vec![$(Box::new(self.$field) as Box<dyn Startable>,)*] }
            }
        }

        impl Caches {
            /// What the cache of `kind` holds under `key`, and the newest version it has heard of. `None` for kinds
            /// without a cache.
            pub fn seen(&self, kind: &Kind, key: &Key) -> Option<(Option<Seen>, u64)> {
                $(if kind.kind == <$kind as k8s_openapi::Resource>::KIND
                    && kind.group == <$kind as k8s_openapi::Resource>::GROUP
                {
                    return look(&self.$field, key);
                })*
                None
            }
        }
    };
}

informers! {
    pods: Pod = Feed::new(),
    nodes: Node = Feed::new(),
    namespaces: Namespace = Feed::new(),
    services: Service = Feed::new(),
    endpoints: Endpoints = Feed::new(),
    endpoint_slices: EndpointSlice = Feed::new(),
    deployments: Deployment = Feed::new(),
    replica_sets: ReplicaSet = Feed::new(),
    replication_controllers: ReplicationController = Feed::new(),
    daemon_sets: DaemonSet = Feed::new(),
    stateful_sets: StatefulSet = Feed::new(),
    controller_revisions: ControllerRevision = Feed::new(),
    jobs: Job = Feed::new(),
    cron_jobs: CronJob = Feed::new(),
    service_accounts: ServiceAccount = Feed::new(),
    token_secrets: Secret = Feed::selected(&format!("type={}", controllers::service_account_token::SECRET_TYPE)),
    config_maps: ConfigMap = Feed::named(controllers::service_account::ROOT_CA),
    leases: Lease = Feed { api: |client| Api::namespaced(client.clone(), NODE_LEASES), ..Feed::new() },
    claims: PersistentVolumeClaim = Feed::new(),
    budgets: PodDisruptionBudget = Feed::new(),
    cluster_roles: ClusterRole = Feed::new(),
    service_cidrs: ServiceCIDR = Feed::new(),
    ip_addresses: IPAddress = Feed::new(),
}

fn look<K: Object>(cache: &Cache<K>, key: &Key) -> Option<(Option<Seen>, u64)> {
    if !cache.is_served() {
        return None;
    }
    let seen = cache.get(key).map(|object| Seen {
        uid: object.uid().to_owned(),
        version: version(object.as_ref()),
        deleting: object.deleting(),
    });
    Some((seen, cache.inner.newest.load(Ordering::Acquire)))
}

/// Feeds whose kinds have not been seen in discovery yet.
pub struct Pending {
    feeds: Vec<Box<dyn Startable>>,
}

impl Pending {
    /// Starts the feeds of the kinds that are served.
    pub fn start_served(
        &mut self,
        served: impl Fn(&Kind) -> bool,
        client: &Client,
        token: &CancellationToken,
    ) -> Vec<Started> {
        let (ready, missing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.feeds).into_iter().partition(|feed| served(&feed.kind()));
        self.feeds = missing;
        ready.into_iter().map(|feed| feed.start(client, token)).collect()
    }

    pub fn kinds(&self) -> Vec<String> {
        self.feeds.iter().map(|feed| feed.kind().plural.into_owned()).collect()
    }
}
