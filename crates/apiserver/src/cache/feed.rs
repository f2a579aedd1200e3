//! Keeps the caches in step with the store: reads everything at one revision, then follows one watch from there on;
//! reconnects where it stopped, and reads everything anew when that point has been compacted away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Caches, Entry, RawChange};
use crate::object::EventType;
use crate::store::{Change, Changes, Error, Store, Stored, WatchEnd};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl Caches {
    /// Runs until stopped.
    pub async fn feed(self: Arc<Self>, store: Store, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow(&store) => {}
        }
    }

    async fn follow(&self, store: &Store) {
        let mut backoff = BACKOFF_MIN;
        let mut reload = true;
        loop {
            let outcome = if reload { self.load(store).await.map(drop) } else { Ok(()) };
            let ended = match outcome {
                Ok(()) => {
                    reload = false;
                    self.watch(store, &mut backoff).await
                }
                Err(error) => WatchEnd::Failed(error),
            };
            match ended {
                WatchEnd::Compacted => {
                    tracing::warn!("the store has compacted what the caches had yet to see; reading everything anew");
                    reload = true;
                }
                WatchEnd::Closed => tracing::debug!("the store closed the watch"),
                WatchEnd::Failed(error) => {
                    use std::error::Error as _;
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(%error, cause, "following the store failed");
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn load(&self, store: &Store) -> Result<u64, Error> {
        let mut found: HashMap<String, Vec<Arc<Entry>>> = HashMap::new();
        let prefix = format!("{}/", store.prefix());
        let revision = store.scan(&prefix, |stored| self.sort_in(&prefix, &stored, &mut found)).await?;
        for cache in self.all() {
            cache.install(found.remove(&cache.kind.storage_path).unwrap_or_default(), revision);
        }
        self.advance(revision);
        Ok(revision)
    }

    fn sort_in(&self, prefix: &str, stored: &Stored, found: &mut HashMap<String, Vec<Arc<Entry>>>) {
        let Some((cache, key)) = stored.key.strip_prefix(prefix).and_then(|key| self.route(key)) else { return };
        match Entry::decode(&cache.kind, EventType::Added, key, &stored.value, stored.revision) {
            Ok((entry, _)) => found.entry(cache.kind.storage_path.clone()).or_default().push(Arc::new(entry)),
            Err(error) => tracing::error!(key = stored.key, %error, "the store holds an object that does not decode"),
        }
    }

    async fn watch(&self, store: &Store, backoff: &mut Duration) -> WatchEnd {
        let mut changes = match store.watch(self.revision() + 1).await {
            Ok(changes) => changes,
            Err(error) => return WatchEnd::Failed(error),
        };
        let prefix = format!("{}/", store.prefix());
        loop {
            match self.step(&mut changes, &prefix).await {
                Ok(()) => *backoff = BACKOFF_MIN,
                Err(end) => return end,
            }
        }
    }

    async fn step(&self, changes: &mut Changes, prefix: &str) -> Result<(), WatchEnd> {
        tokio::select! {
            next = changes.next() => {
                let (batch, reached) = next?;
                if batch.is_empty() {
                    self.advance_by_notification(reached);
                } else {
                    self.apply_all(prefix, batch);
                    self.advance(reached);
                }
                Ok(())
            }
            () = self.progress_wanted.notified() => changes.request_progress().await,
        }
    }

    /// Applies a batch, keeping together what goes to the same cache.
    fn apply_all(&self, prefix: &str, batch: Vec<Change>) {
        let mut run: Option<(&Arc<super::Cache>, Vec<RawChange>)> = None;
        for change in batch {
            let Some((cache, key)) = change.key().strip_prefix(prefix).and_then(|key| self.route(key)) else {
                continue;
            };
            let raw = RawChange { key: key.to_owned(), revision: change.revision(), value: None };
            let raw = match change {
                Change::Put(stored) => RawChange { value: Some(stored.value), ..raw },
                Change::Delete { .. } => raw,
            };
            match &mut run {
                Some((same, changes)) if Arc::ptr_eq(same, cache) => changes.push(raw),
                _ => {
                    if let Some((cache, changes)) = run.replace((cache, vec![raw])) {
                        cache.apply(changes);
                    }
                }
            }
        }
        if let Some((cache, changes)) = run {
            cache.apply(changes);
        }
    }
}
