//! A local copy of one kind, kept current by a watch, with callbacks for what changed.
//!
//! Invariants: readers never wait for the network; a callback sees every difference between two states of the copy,
//! with the old object at hand; after a lost connection the copy is re-listed and the differences are reported like
//! any other change, deletions included.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use daemon::CancellationToken;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Doubling waits with jitter between attempts; anything received resets them.
#[derive(Debug, Default)]
struct Retry {
    attempts: u32,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let base = RETRY_FIRST.saturating_mul(1 << self.attempts.min(10)).min(RETRY_MOST);
        self.attempts = self.attempts.saturating_add(1);
        Some(base.mul_f64(1.0 + 0.2 * rand::random::<f64>()))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// `namespace/name`, or `name` for cluster-scoped objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A difference between two states of the copy.
#[derive(Debug)]
pub enum Change<K> {
    Added(Arc<K>),
    Updated { old: Arc<K>, new: Arc<K> },
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The newest form known.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Deleted(object) | Self::Updated { new: object, .. } => object,
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;
type Trim<K> = Box<dyn Fn(&mut K) + Send + Sync>;
type Objects<K> = BTreeMap<String, HashMap<String, Arc<K>>>;

/// A handle on the copy; cheap to clone.
pub struct Informer<K> {
    objects: Arc<RwLock<Objects<K>>>,
    synced: watch::Receiver<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), synced: self.synced.clone() }
    }
}

impl<K> Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer").field("synced", &*self.synced.borrow()).finish_non_exhaustive()
    }
}

/// Handlers are set here, before anything is received, so that none misses a change.
pub struct Builder<K> {
    api: Api<K>,
    config: watcher::Config,
    handlers: Vec<Handler<K>>,
    trim: Option<Trim<K>>,
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    pub fn builder(api: Api<K>, config: watcher::Config) -> Builder<K> {
        Builder { api, config, handlers: Vec::new(), trim: None }
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().get(&key.namespace)?.get(&key.name).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects.read().values().flat_map(HashMap::values).cloned().collect()
    }

    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects.read().get(namespace).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.objects.read().values().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first full list has arrived.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until it has; returns at once when the informer has been stopped.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // An error means that the sender is gone: nothing will ever come.
        let _ = synced.wait_for(|synced| *synced).await;
    }
}

impl<K> Builder<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Called for every change, in order, from the informer's task: must not block.
    #[must_use]
    pub fn on_change(mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) -> Self {
        self.handlers.push(Box::new(handler));
        self
    }

    /// Drops what the daemon never reads, before the object is kept.
    #[must_use]
    pub fn trim(mut self, trim: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.trim = Some(Box::new(trim));
        self
    }

    /// Runs until the token is cancelled.
    pub fn start(self, token: CancellationToken) -> Informer<K> {
        let (sender, synced) = watch::channel(false);
        let informer = Informer { objects: Arc::default(), synced };
        let state = State { objects: informer.objects.clone(), handlers: self.handlers, trim: self.trim, fresh: None };
        let (api, config) = (self.api, self.config);
        tokio::spawn(async move {
            tokio::select! { () = token.cancelled() => {}, () = run(api, config, state, &sender) => {} }
        });
        informer
    }
}

struct State<K> {
    objects: Arc<RwLock<Objects<K>>>,
    handlers: Vec<Handler<K>>,
    trim: Option<Trim<K>>,
    /// The keys seen in the list under way.
    fresh: Option<HashSet<Key>>,
}

async fn run<K>(api: Api<K>, config: watcher::Config, mut state: State<K>, synced: &watch::Sender<bool>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut events = watcher::watcher(api, config).backoff(Retry::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if state.step(event) {
                    synced.send_replace(true);
                }
            }
            Err(error) => tracing::debug!(%error, kind = std::any::type_name::<K>(), "watch interrupted"),
        }
    }
}

impl<K: Resource> State<K> {
    /// Applies one event; true when a list has been completed.
    fn step(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => self.fresh = Some(HashSet::new()),
            Event::InitApply(object) => {
                if let Some(fresh) = &mut self.fresh {
                    fresh.insert(Key::of(&object));
                }
                self.put(object);
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => self.remove(&Key::of(&object), Some(object)),
            Event::InitDone => {
                let fresh = self.fresh.take().unwrap_or_default();
                for key in self.keys().into_iter().filter(|key| !fresh.contains(key)) {
                    self.remove(&key, None);
                }
                return true;
            }
        }
        false
    }

    fn keys(&self) -> Vec<Key> {
        let objects = self.objects.read();
        objects.iter().flat_map(|(ns, in_ns)| in_ns.keys().map(move |name| Key::new(ns, name))).collect()
    }

    fn put(&mut self, mut object: K) {
        if let Some(trim) = &self.trim {
            trim(&mut object);
        }
        let key = Key::of(&object);
        let new = Arc::new(object);
        let old = self.objects.write().entry(key.namespace).or_default().insert(key.name, new.clone());
        match old {
            // A re-list brings what is already here: not a change.
            Some(old) if old.meta().resource_version == new.meta().resource_version => {}
            Some(old) => self.tell(&Change::Updated { old, new }),
            None => self.tell(&Change::Added(new)),
        }
    }

    fn remove(&mut self, key: &Key, last: Option<K>) {
        let removed = {
            let mut objects = self.objects.write();
            let Some(in_namespace) = objects.get_mut(&key.namespace) else { return };
            let removed = in_namespace.remove(&key.name);
            if in_namespace.is_empty() {
                objects.remove(&key.namespace);
            }
            removed
        };
        if let Some(removed) = removed {
            self.tell(&Change::Deleted(last.map_or(removed, Arc::new)));
        }
    }

    fn tell(&self, change: &Change<K>) {
        for handler in &self.handlers {
            handler(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;

    fn object(name: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.namespace = Some("ns".into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    fn check(events: Vec<Event<ConfigMap>>, expected: &[&str]) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let handler: Handler<ConfigMap> = Box::new(move |change| {
            let word = match change {
                Change::Added(_) => "+",
                Change::Updated { .. } => "~",
                Change::Deleted(_) => "-",
            };
            log.lock().push(format!("{word}{}", Key::of(change.object().as_ref())));
        });
        let mut state = State { objects: Arc::default(), handlers: vec![handler], trim: None, fresh: None };
        for event in events {
            state.step(event);
        }
        assert_eq!(*seen.lock(), expected);
    }

    #[test]
    fn a_relist_reports_only_differences() {
        check(
            vec![
                Event::Init,
                Event::InitApply(object("a", "1")),
                Event::InitApply(object("b", "1")),
                Event::InitDone,
                Event::Apply(object("a", "2")),
                Event::Init,
                Event::InitApply(object("a", "2")),
                Event::InitApply(object("c", "3")),
                Event::InitDone,
                Event::Delete(object("c", "4")),
            ],
            &["+ns/a", "+ns/b", "~ns/a", "+ns/c", "-ns/b", "-ns/c"],
        );
    }
}
