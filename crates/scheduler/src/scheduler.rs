//! The loop: take a pod, decide, hand the result to a writer, and sleep when there is nothing to do.

use std::sync::Arc;
use std::time::Instant;

use daemon::CancellationToken;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::core::{Binding, Core, Effect};
use crate::writer::{Bound, MAX_WRITES, Writer};

/// What the informers, the loop and the writers share.
pub struct Shared {
    pub core: Mutex<Core>,
    /// Something changed that the loop should look at.
    pub wake: Notify,
    synced: watch::Sender<bool>,
}

impl Shared {
    pub fn new(core: Core) -> Arc<Self> {
        Arc::new(Shared { core: Mutex::new(core), wake: Notify::new(), synced: watch::Sender::new(false) })
    }

    /// Everything a decision depends on is known.
    pub fn set_synced(&self) {
        self.synced.send_replace(true);
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    pub async fn synced(&self) {
        // The sender is `self`: it cannot be gone.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }
}

/// Schedules until the token is cancelled; writes under way are completed.
pub async fn run(shared: Arc<Shared>, writer: Arc<Writer>, token: CancellationToken) {
    let tasks = TaskTracker::new();
    while !token.is_cancelled() {
        let slot = tokio::select! {
            () = token.cancelled() => break,
            slot = writer.slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let woken = shared.wake.notified();
        let (effect, deadline) = {
            let mut core = shared.core.lock();
            (core.step(Instant::now()), core.deadline())
        };
        match effect {
            Some(effect) => {
                let (shared, writer) = (shared.clone(), writer.clone());
                tasks.spawn(async move {
                    carry_out(&shared, &writer, effect).await;
                    drop(slot);
                });
            }
            None => {
                drop(slot);
                let due = async {
                    match deadline {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! { () = token.cancelled() => break, () = woken => {}, () = due => {} }
            }
        }
    }
    debug_assert!(tasks.len() <= MAX_WRITES, "a slot per write");
    tasks.close();
    tasks.wait().await;
}

async fn carry_out(shared: &Shared, writer: &Writer, effect: Effect) {
    match effect {
        Effect::Report(report) => writer.report(&report).await,
        Effect::Bind(binding) => {
            let outcome = writer.bind(&binding).await;
            conclude(&mut shared.core.lock(), &binding, &outcome);
            shared.wake.notify_one();
        }
    }
}

fn conclude(core: &mut Core, binding: &Binding, outcome: &Bound) {
    let now = Instant::now();
    match outcome {
        Bound::Yes => core.bound(binding, now),
        Bound::Gone => core.not_bound(binding, true, now),
        Bound::No => core.not_bound(binding, false, now),
    }
}
