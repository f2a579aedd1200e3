//! A work queue of keys. Invariants: a key waits at most once; a key being worked on is not handed out again until it
//! is done, and one added meanwhile is handed out once more afterwards; failures come back later and later.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use daemon::CancellationToken;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Upstream's per-item back-off: 5 ms doubling to 1000 s; capped lower here, since a retry is cheap and a stall is not.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// What a worker wants next for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing until something changes.
    Done,
    /// Look again after this time.
    After(Duration),
    /// Failed: again with back-off.
    Retry,
}

struct Inner<T> {
    ready: VecDeque<T>,
    waiting: HashSet<T>,
    active: HashSet<T>,
    delayed: BTreeMap<(Instant, u64), T>,
    due: HashMap<T, (Instant, u64)>,
    failures: HashMap<T, u32>,
    serial: u64,
}

/// Cheap to clone.
pub struct Queue<T> {
    inner: Arc<Mutex<Inner<T>>>,
    wake: Arc<Notify>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), wake: self.wake.clone() }
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Queue<T> {
    pub fn new() -> Self {
        let inner = Inner {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            active: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            serial: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)), wake: Arc::new(Notify::new()) }
    }

    pub fn add(&self, key: T) {
        self.inner.lock().add(key);
        self.wake.notify_one();
    }

    /// The earlier of two times wins.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.inner.lock().add_at(key, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// Keys that are ready to be worked on.
    pub fn depth(&self) -> usize {
        self.inner.lock().ready.len()
    }

    /// How often this key has failed in a row.
    pub fn failures(&self, key: &T) -> u32 {
        self.inner.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Waits for the next key. The caller must call `finish` for it.
    pub async fn next(&self) -> T {
        loop {
            let notified = self.wake.notified();
            let deadline = {
                let mut inner = self.inner.lock();
                inner.promote(Instant::now());
                if let Some(key) = inner.take() {
                    if !inner.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return key;
                }
                inner.delayed.keys().next().map(|(at, _)| *at)
            };
            match deadline {
                Some(at) => tokio::select! { () = notified => {}, () = tokio::time::sleep_until(at) => {} },
                None => notified.await,
            }
        }
    }

    pub fn finish(&self, key: T, outcome: Outcome) {
        let mut inner = self.inner.lock();
        inner.active.remove(&key);
        if inner.waiting.contains(&key) {
            inner.ready.push_back(key.clone());
        }
        match outcome {
            Outcome::Done => drop(inner.failures.remove(&key)),
            Outcome::After(delay) => {
                inner.failures.remove(&key);
                inner.add_at(key, Instant::now() + delay);
            }
            Outcome::Retry => {
                let failures = inner.failures.entry(key.clone()).or_default();
                let delay = backoff(*failures);
                *failures = failures.saturating_add(1);
                inner.add_at(key, Instant::now() + delay);
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Works with `workers` tasks until the token is cancelled; work under way is completed.
    pub async fn run<F, Fut>(&self, workers: usize, token: &CancellationToken, work: F)
    where
        F: Fn(T) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Outcome> + Send,
    {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..workers {
            let (queue, token, work) = (self.clone(), token.clone(), work.clone());
            tasks.spawn(async move {
                loop {
                    let key = tokio::select! { () = token.cancelled() => return, key = queue.next() => key };
                    let outcome = work(key.clone()).await;
                    queue.finish(key, outcome);
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// With a tenth of jitter, so that failures together are not retried together.
fn backoff(failures: u32) -> Duration {
    let base = RETRY_FIRST.saturating_mul(1 << failures.min(20)).min(RETRY_MOST);
    base + base.mul_f64(rand::random::<f64>() * 0.1)
}

impl<T: Clone + Eq + Hash> Inner<T> {
    fn add(&mut self, key: T) {
        if let Some(at) = self.due.remove(&key) {
            self.delayed.remove(&at);
        }
        if self.waiting.insert(key.clone()) && !self.active.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: T, at: Instant) {
        if self.waiting.contains(&key) {
            return;
        }
        match self.due.get(&key) {
            Some((sooner, _)) if *sooner <= at => return,
            Some(later) => drop(self.delayed.remove(later)),
            None => {}
        }
        self.serial += 1;
        self.due.insert(key.clone(), (at, self.serial));
        self.delayed.insert((at, self.serial), key);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.active.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_worked_on_comes_again_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.depth(), 0);
        queue.finish("a", Outcome::Done);
        assert_eq!(queue.depth(), 1);
        assert_eq!(queue.next().await, "a");
        queue.finish("a", Outcome::Done);
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_delays_wins() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(20));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.finish("a", Outcome::Done);
        let more = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(more.is_err(), "the later ones were forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_success_forgets_them() {
        let queue = Queue::new();
        let mut waits = Vec::new();
        queue.add("a");
        for _ in 0..4 {
            let start = Instant::now();
            queue.next().await;
            waits.push(start.elapsed());
            queue.finish("a", Outcome::Retry);
        }
        assert!(waits.windows(2).all(|w| w[0] < w[1]), "{waits:?}");
        queue.next().await;
        queue.finish("a", Outcome::Done);
        assert_eq!(queue.failures(&"a"), 0);
    }
}
