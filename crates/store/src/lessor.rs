//! Leases in the leader's memory: renewed without a log entry, ended through the log.

use std::time::{Duration, Instant};

use mvcc::{Expiry, Leases};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many leases one round ends; the rest follow in the next.
pub const MAX_REVOKED_PER_ROUND: usize = 500;
/// How long to wait before a revocation that failed is tried again.
pub const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptAlive {
    Renewed,
    RunOut,
    /// Another member leads.
    Elsewhere,
}

#[derive(Debug)]
pub struct Lessor {
    origin: Instant,
    /// The time of a simulation.
    #[cfg(test)]
    simulated_ms: std::sync::OnceLock<std::sync::atomic::AtomicU64>,
    expiry: Mutex<Option<Expiry>>,
    changed: Notify,
}

impl Default for Lessor {
    fn default() -> Lessor {
        Lessor {
            origin: Instant::now(),
            #[cfg(test)]
            simulated_ms: std::sync::OnceLock::new(),
            expiry: Mutex::new(None),
            changed: Notify::new(),
        }
    }
}

impl Lessor {
    /// From now on time passes only by being told here.
    #[cfg(test)]
    pub fn set_now_ms(&self, now: u64) {
        self.simulated_ms.get_or_init(Default::default).store(now, std::sync::atomic::Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        #[cfg(test)]
        if let Some(now) = self.simulated_ms.get() {
            return now.load(std::sync::atomic::Ordering::Relaxed);
        }
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// This member leads now: every lease counts in full from here on.
    pub fn promote(&self, leases: &Leases) {
        *self.expiry.lock() = Some(Expiry::promote(leases, self.now_ms()));
        self.changed.notify_one();
    }

    /// Another member leads: it decides when leases end.
    pub fn demote(&self) {
        *self.expiry.lock() = None;
    }

    /// Granted or renewed.
    pub fn renew(&self, id: i64, ttl_seconds: i64) {
        let now = self.now_ms();
        if let Some(expiry) = self.expiry.lock().as_mut() {
            let before = expiry.next_deadline_ms();
            expiry.renew(id, ttl_seconds, now);
            // A later deadline needs no waking: the sleeper looks again when it wakes.
            if before.is_none_or(|before| expiry.next_deadline_ms() < Some(before)) {
                self.changed.notify_one();
            }
        }
    }

    /// Renews a lease that somebody keeps alive. One that has run out is being ended, and cannot be had back.
    pub fn keep_alive(&self, id: i64, ttl_seconds: i64) -> KeptAlive {
        let now = self.now_ms();
        let mut expiry = self.expiry.lock();
        let Some(expiry) = expiry.as_mut() else { return KeptAlive::Elsewhere };
        if expiry.has_run_out(id, now) {
            return KeptAlive::RunOut;
        }
        // The deadline moves back: the sleeper looks again when it wakes.
        expiry.renew(id, ttl_seconds, now);
        KeptAlive::Renewed
    }

    pub fn revoked(&self, id: i64) {
        if let Some(expiry) = self.expiry.lock().as_mut() {
            expiry.remove(id);
        }
    }

    pub fn remaining_seconds(&self, id: i64) -> Option<i64> {
        let now = self.now_ms();
        self.expiry.lock().as_ref()?.remaining_seconds(id, now)
    }

    /// Those that have run out by now, if this member leads.
    pub fn expired_now(&self) -> Vec<i64> {
        let now = self.now_ms();
        self.expiry.lock().as_ref().map(|expiry| expiry.expired(now, MAX_REVOKED_PER_ROUND)).unwrap_or_default()
    }

    /// Waits until leases have run out and names them. They are named again until revoked.
    pub async fn expired(&self) -> Vec<i64> {
        loop {
            let changed = self.changed.notified();
            let expired = self.expired_now();
            if !expired.is_empty() {
                return expired;
            }
            let next = self.expiry.lock().as_ref().and_then(Expiry::next_deadline_ms);
            match next {
                None => changed.await,
                Some(deadline) => {
                    let wait = Duration::from_millis(deadline.saturating_sub(self.now_ms()));
                    tokio::select! { () = changed => {}, () = tokio::time::sleep(wait) => {} }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_has_run_out_is_not_kept_alive() {
        let lessor = Lessor::default();
        assert_eq!(lessor.keep_alive(1, 60), KeptAlive::Elsewhere);
        lessor.promote(&Leases::default());
        lessor.renew(1, 60);
        assert_eq!(lessor.keep_alive(1, 0), KeptAlive::Renewed);
        assert_eq!(lessor.keep_alive(1, 60), KeptAlive::RunOut);
    }
}
