//! All caches, how far they have come together, and waiting for them to be fresh.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::ApiError;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::Cache;
use crate::catalog::Kind;
use crate::store::{self, Store};

/// How long a read waits for the cache to reach the store.
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two questions to the store how far the stream has come; the events themselves mostly answer first.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// Readers waiting for one read of the store's revision.
const MAX_WAITERS: usize = 10_000;

pub struct Caches {
    by_path: HashMap<String, Arc<Cache>>,
    progress: watch::Sender<u64>,
    /// The newest revision that this server itself has written.
    written: AtomicU64,
    pub(super) progress_wanted: Notify,
    ask: mpsc::Sender<oneshot::Sender<Result<u64, Arc<store::Error>>>>,
}

impl Caches {
    /// The future must be driven: it reads the store's revision for those who wait for it.
    pub fn new(kinds: Vec<Arc<Kind>>, store: Store) -> (Arc<Self>, impl Future<Output = ()>) {
        let (ask, asked) = mpsc::channel(MAX_WAITERS);
        let by_path = kinds.into_iter().map(|kind| (kind.storage_path.clone(), Arc::new(Cache::new(kind)))).collect();
        let caches = Self {
            by_path,
            progress: watch::Sender::new(0),
            written: AtomicU64::new(0),
            progress_wanted: Notify::new(),
            ask,
        };
        (Arc::new(caches), answer_revisions(store, asked))
    }

    pub fn get(&self, storage_path: &str) -> Option<&Arc<Cache>> {
        self.by_path.get(storage_path)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Cache>> {
        self.by_path.values()
    }

    /// The cache that a key (without the store's prefix and slash) belongs to, and the key within it.
    pub(super) fn route<'a>(&self, key: &'a str) -> Option<(&Arc<Cache>, &'a str)> {
        let (first, rest) = key.split_once('/')?;
        if let Some(cache) = self.by_path.get(first) {
            return Some((cache, rest));
        }
        let (second, rest) = rest.split_once('/')?;
        let path = &key[..first.len() + 1 + second.len()];
        self.by_path.get(path).map(|cache| (cache, rest))
    }

    /// Every change up to this revision has been applied.
    pub fn revision(&self) -> u64 {
        *self.progress.borrow()
    }

    pub fn is_loaded(&self) -> bool {
        self.revision() > 0
    }

    pub fn note_written(&self, kind: &Kind, revision: u64) {
        self.written.fetch_max(revision, Ordering::AcqRel);
        if let Some(cache) = self.get(&kind.storage_path) {
            cache.written.fetch_max(revision, Ordering::AcqRel);
        }
    }

    /// Waits until a cache holds what this server itself has written of its resource: a client that was told of a
    /// change must not be answered as if it had not happened. Costs nothing while nothing is on its way.
    pub async fn own_writes(&self, cache: &Cache) -> Result<(), ApiError> {
        let written = cache.written();
        if self.revision() >= written {
            return Ok(());
        }
        self.wait_for(written).await
    }

    pub(super) fn advance(&self, revision: u64) {
        self.progress.send_if_modified(|current| {
            let grows = revision > *current;
            *current = (*current).max(revision);
            grows
        });
    }

    /// A progress notification. etcd before 3.4.25 may send one ahead of the events it covers, so one that would jump
    /// over this server's own last write is not believed: that write's event is still to come.
    pub(super) fn advance_by_notification(&self, revision: u64) {
        if self.revision() >= self.written.load(Ordering::Acquire).min(revision) {
            self.advance(revision);
        }
    }

    /// Waits until everything committed before this call is in the caches.
    pub async fn fresh(&self) -> Result<u64, ApiError> {
        let (tx, rx) = oneshot::channel();
        self.ask
            .try_send(tx)
            .map_err(|_| ApiError::too_many_requests("too many requests, please try again later", 1))?;
        let revision = rx.await.map_err(|_| ApiError::service_unavailable("the server is shutting down"))?;
        let revision = revision.map_err(|error| ApiError::from(&*error))?;
        self.wait_for(revision).await?;
        Ok(revision)
    }

    /// Waits until the caches have reached a revision.
    pub async fn wait_for(&self, revision: u64) -> Result<(), ApiError> {
        let mut progress = self.progress.subscribe();
        let deadline = tokio::time::Instant::now() + FRESH_TIMEOUT;
        loop {
            if *progress.borrow_and_update() >= revision {
                return Ok(());
            }
            tokio::select! {
                changed = progress.changed() => {
                    changed.map_err(|_| ApiError::service_unavailable("the server is shutting down"))?;
                }
                () = tokio::time::sleep(PROGRESS_INTERVAL) => self.progress_wanted.notify_one(),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(ApiError::too_large_resource_version(revision, self.revision()));
                }
            }
        }
    }

    pub async fn wait_loaded(&self) {
        let mut progress = self.progress.subscribe();
        // An error means that the caches are gone, and with them whoever waits.
        let _ = progress.wait_for(|revision| *revision > 0).await;
    }
}

/// Answers everyone who asked before a read of the store began with that one read.
async fn answer_revisions(store: Store, mut asked: mpsc::Receiver<oneshot::Sender<Result<u64, Arc<store::Error>>>>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, MAX_WAITERS).await > 0 {
        let answer = store.revision().await.map_err(Arc::new);
        for waiter in waiting.drain(..) {
            // Whoever went away needs no answer.
            let _ = waiter.send(answer.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[tokio::test]
    async fn a_reader_waits_for_the_own_writes_of_its_resource_only() {
        let config = store::Config {
            servers: vec!["http://127.0.0.1:1".to_owned()],
            prefix: "/registry".to_owned(),
            ca: None,
            identity: None,
        };
        let store = Store::connect(&config).await.expect("nothing is contacted yet");
        let catalog = Catalog::builtin();
        let kinds = ["namespaces", "pods"].map(|plural| catalog.find("", "v1", plural).expect("built in").clone());
        let [namespaces, pods] = kinds.clone();
        let (caches, _) = Caches::new(kinds.into(), store);
        let cache = |kind: &Kind| caches.get(&kind.storage_path).expect("a cache").clone();
        caches.advance(4);
        caches.note_written(&namespaces, 5);
        caches.own_writes(&cache(&pods)).await.expect("no pod was written");
        let namespaces = cache(&namespaces);
        let mut waiting = std::pin::pin!(caches.own_writes(&namespaces));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        caches.advance(5);
        waiting.await.expect("the write has arrived");
    }
}
