//! A cursor into one resource's events.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Cache, Entry, Event, Selection};

/// Events handed out at once.
const BATCH: usize = 256;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The present state as a list of additions, then what follows.
    Now,
    /// What follows a revision.
    After(u64),
}

/// Events are gone that this watcher had not seen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct WatchLost {
    pub asked: u64,
    pub oldest: u64,
}

pub struct Watcher {
    cache: Arc<Cache>,
    cursor: u64,
    epoch: u64,
    /// Events up to here are skipped: the client has seen them.
    after: u64,
    changed: watch::Receiver<u64>,
}

impl Watcher {
    /// Opens a cursor; the second value is the initial state when it was asked for, the third its revision.
    pub fn open(
        cache: &Arc<Cache>,
        start: Start,
        selection: &Selection,
    ) -> Result<(Self, Vec<Arc<Entry>>, u64), WatchLost> {
        let changed = cache.changed.subscribe();
        let state = cache.state.read();
        let (cursor, after, initial) = match start {
            Start::Now => {
                let prefix = selection.key_prefix();
                let range = state
                    .objects
                    .range::<str, _>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded));
                let within = range.take_while(|o| o.0.key.starts_with(&prefix));
                let initial = within.filter(|o| selection.matches(&o.0)).map(|o| o.0.clone()).collect();
                (state.ring.end(), 0, initial)
            }
            Start::After(revision) => {
                let lost = WatchLost { asked: revision, oldest: state.ring.floor() };
                (state.ring.cursor_after(revision).ok_or(lost)?, revision, Vec::new())
            }
        };
        let (epoch, revision) = (state.epoch, state.revision);
        drop(state);
        Ok((Self { cache: cache.clone(), cursor, epoch, after, changed }, initial, revision))
    }

    /// Waits for events; never returns an empty batch.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, WatchLost> {
        loop {
            self.changed.borrow_and_update();
            let mut batch = self.poll()?;
            batch.retain(|e| e.revision > self.after);
            if !batch.is_empty() {
                return Ok(batch);
            }
            if self.changed.changed().await.is_err() {
                return Err(WatchLost { asked: self.after, oldest: u64::MAX });
            }
        }
    }

    /// Whether there is nothing that this watcher has yet to see.
    pub fn is_drained(&self) -> bool {
        let state = self.cache.state.read();
        state.epoch == self.epoch && state.ring.end() == self.cursor
    }

    fn poll(&mut self) -> Result<Vec<Arc<Event>>, WatchLost> {
        let state = self.cache.state.read();
        let lost = WatchLost { asked: self.after, oldest: state.ring.floor() };
        if state.epoch != self.epoch {
            return Err(lost);
        }
        let batch = state.ring.read(self.cursor, BATCH).ok_or(lost)?;
        self.cursor += batch.len() as u64;
        Ok(batch)
    }
}
