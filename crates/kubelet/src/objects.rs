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
        // That it has none is an answer, too: a watch tells when there is one, and marks the pods that lack it.
        if let Some(informer) = known.filter(Informer::is_synced) {
            return Ok(informer.get(&key));
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    /// An API server without objects, until its watch sends the line it is given. Counts what is read directly.
    fn server(line: oneshot::Receiver<String>) -> (kube::Client, Arc<AtomicUsize>) {
        let (line, reads) = (Arc::new(Mutex::new(Some(line))), Arc::new(AtomicUsize::new(0)));
        let count = reads.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let watch = request.uri().query().is_some_and(|query| query.contains("watch="));
            let direct = request.uri().path().ends_with("/c");
            count.fetch_add(usize::from(direct), Ordering::Relaxed);
            let line = watch.then(|| line.lock().take());
            async move {
                let (status, body) = match line {
                    Some(Some(line)) => (200, line.await.expect("a line")),
                    Some(None) => std::future::pending().await,
                    None if direct => (404, json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"}).to_string()),
                    None => (200, json!({"metadata": {"resourceVersion": "1"}, "items": []}).to_string()),
                };
                let response = Response::builder().status(status).body(Body::from(body.into_bytes()));
                Ok::<_, Infallible>(response.expect("a valid response"))
            }
        });
        (kube::Client::new(service, "default"), reads)
    }

    #[tokio::test]
    async fn a_watch_knows_what_is_not_there() {
        let (send, line) = oneshot::channel();
        let (client, reads) = server(line);
        let objects = Objects::new(Some(client));
        let mut changes = objects.changes();
        let key = Key::new("ns", "c");
        assert_eq!(objects.config_map("ns", "c").await.expect("read"), None);
        let informer = objects.config_maps.lock().get(&key).expect("watched").informer.clone();
        informer.synced().await;
        assert_eq!(objects.config_map("ns", "c").await.expect("known"), None);
        assert_eq!(reads.load(Ordering::Relaxed), 1, "only before there was a watch");
        let object = json!({"metadata": {"namespace": "ns", "name": "c", "resourceVersion": "2"}});
        send.send(json!({"type": "ADDED", "object": object}).to_string() + "\n").expect("watched");
        assert_eq!(changes.recv().await.expect("told"), (Kind::ConfigMap, key));
        assert!(objects.config_map("ns", "c").await.expect("known").is_some());
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }
}
