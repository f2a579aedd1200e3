//! ConfigMaps and secrets that pods refer to: read when needed, then watched one by one so that a
//! change reaches the pods at once.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use client::{Informer, Key};
use daemon::CancellationToken;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use kube::api::Api;
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

/// Changes waiting to be told; a receiver that lags looks at everything.
const CHANGES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    ConfigMap,
    Secret,
}

/// One object of interest.
pub type Reference = (Kind, Key);

struct Watched<K> {
    informer: Informer<K>,
    token: CancellationToken,
}

type Table<K> = Arc<Mutex<HashMap<Key, Watched<K>>>>;

/// Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    api: Option<kube::Client>,
    config_maps: Table<ConfigMap>,
    secrets: Table<Secret>,
    changes: broadcast::Sender<Reference>,
}

impl Objects {
    pub fn new(api: Option<kube::Client>) -> Objects {
        let (changes, _) = broadcast::channel(CHANGES);
        Objects { api, config_maps: Arc::default(), secrets: Arc::default(), changes }
    }

    pub fn changes(&self) -> broadcast::Receiver<Reference> {
        self.changes.subscribe()
    }

    /// `None` when there is no such object.
    pub async fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<Arc<ConfigMap>>> {
        self.read(&self.config_maps, Kind::ConfigMap, Key::new(namespace, name)).await
    }

    pub async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Arc<Secret>>> {
        self.read(&self.secrets, Kind::Secret, Key::new(namespace, name)).await
    }

    async fn read<K>(&self, table: &Table<K>, kind: Kind, key: Key) -> kube::Result<Option<Arc<K>>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let Some(client) = &self.api else { return Ok(None) };
        let known = table.lock().get(&key).map(|watched| watched.informer.clone());
        if let Some(object) = known.filter(Informer::is_synced).and_then(|informer| informer.get(&key)) {
            return Ok(Some(object));
        }
        let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
        let object = api.get_opt(&key.name).await?;
        self.watch(table, kind, key, api);
        Ok(object.map(Arc::new))
    }

    fn watch<K>(&self, table: &Table<K>, kind: Kind, key: Key, api: Api<K>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut table = table.lock();
        if table.contains_key(&key) {
            return;
        }
        let token = CancellationToken::new();
        let changes = self.changes.clone();
        let told = key.clone();
        let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
        let informer = Informer::builder(api, config)
            .on_change(move |_| {
                // Nobody listening is fine: the next reader sees the new state.
                let _ = changes.send((kind, told.clone()));
            })
            .start(token.clone());
        table.insert(key, Watched { informer, token });
    }

    /// Stops watching what no pod refers to any more.
    pub fn retain(&self, used: impl Fn(&Reference) -> bool) {
        sweep(&self.config_maps, |key| used(&(Kind::ConfigMap, key.clone())));
        sweep(&self.secrets, |key| used(&(Kind::Secret, key.clone())));
    }
}

fn sweep<K>(table: &Table<K>, used: impl Fn(&Key) -> bool) {
    table.lock().retain(|key, watched| {
        let keep = used(key);
        if !keep {
            watched.token.cancel();
        }
        keep
    });
}
