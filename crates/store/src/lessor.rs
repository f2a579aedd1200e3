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
    leading: Mutex<Option<Leading>>,
    changed: Notify,
}

/// What a leader knows.
#[derive(Debug)]
struct Leading {
    expiry: Expiry,
    /// A quorum that took this member for the leader, asked so late, will elect no other for a while.
    sure_from_ms: u64,
    /// Until when nobody else can have ended a lease.
    sure_until_ms: u64,
    /// Others may have applied, and answered, what this member has not applied yet.
    behind: bool,
}

impl Default for Lessor {
    fn default() -> Lessor {
        Lessor {
            origin: Instant::now(),
            #[cfg(test)]
            simulated_ms: std::sync::OnceLock::new(),
            leading: Mutex::new(None),
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

    pub fn now_ms(&self) -> u64 {
        #[cfg(test)]
        if let Some(now) = self.simulated_ms.get() {
            return now.load(std::sync::atomic::Ordering::Relaxed);
        }
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// This member leads now: every lease counts in full from here on.
    pub fn promote(&self, leases: &Leases) {
        let now = self.now_ms();
        let expiry = Expiry::promote(leases, now);
        *self.leading.lock() = Some(Leading { expiry, sure_from_ms: now, sure_until_ms: 0, behind: true });
        self.changed.notify_one();
    }

    /// Another member leads: it decides when leases end.
    pub fn demote(&self) {
        *self.leading.lock() = None;
    }

    /// A quorum that was asked at this time took this member for the leader, and knows no other for as long again.
    pub fn confirm(&self, asked_ms: u64, window_ms: u64) {
        if let Some(leading) = self.leading.lock().as_mut().filter(|leading| leading.sure_from_ms <= asked_ms) {
            leading.sure_until_ms = leading.sure_until_ms.max(asked_ms + window_ms);
        }
    }

    /// Whether this member has yet to apply something that it knows to be committed: its own disk may be the slowest.
    /// Told before anyone else learns from this member what is committed.
    pub fn set_behind(&self, behind: bool) {
        if let Some(leading) = self.leading.lock().as_mut() {
            leading.behind = behind;
        }
    }

    /// Who has been asked so far does not count: the quorum is another one now.
    pub fn doubt(&self) {
        self.not_sure_before(self.now_ms() + 1);
    }

    /// Another was told to lead and may do so at any time, whatever a quorum has said.
    pub fn hand_over(&self) {
        self.not_sure_before(u64::MAX);
    }

    fn not_sure_before(&self, from: u64) {
        if let Some(leading) = self.leading.lock().as_mut() {
            (leading.sure_from_ms, leading.sure_until_ms) = (leading.sure_from_ms.max(from), 0);
        }
    }

    /// Granted or renewed.
    pub fn renew(&self, id: i64, ttl_seconds: i64) {
        let now = self.now_ms();
        if let Some(Leading { expiry, .. }) = self.leading.lock().as_mut() {
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
        match self.leading.lock().as_mut() {
            Some(leading) => leading.keep_alive(id, ttl_seconds, now),
            None => KeptAlive::Elsewhere,
        }
    }

    /// As [`Lessor::keep_alive`], if nobody else can lead, and nobody else can know of more than is applied here; else
    /// nothing, and a quorum has to be asked. Whoever calls holds the state, so that nothing is applied meanwhile.
    pub fn keep_alive_if_sure(&self, id: i64, ttl_seconds: i64) -> Option<KeptAlive> {
        // Read under the lock: a process that sleeps between the two is not sure any more.
        let mut leading = self.leading.lock();
        let now = self.now_ms();
        let leading = leading.as_mut().filter(|leading| now < leading.sure_until_ms && !leading.behind)?;
        Some(leading.keep_alive(id, ttl_seconds, now))
    }

    pub fn revoked(&self, id: i64) {
        if let Some(leading) = self.leading.lock().as_mut() {
            leading.expiry.remove(id);
        }
    }

    pub fn remaining_seconds(&self, id: i64) -> Option<i64> {
        let now = self.now_ms();
        self.leading.lock().as_ref()?.expiry.remaining_seconds(id, now)
    }

    /// Those that have run out by now, if this member leads.
    pub fn expired_now(&self) -> Vec<i64> {
        let now = self.now_ms();
        let leading = self.leading.lock();
        leading.as_ref().map(|leading| leading.expiry.expired(now, MAX_REVOKED_PER_ROUND)).unwrap_or_default()
    }

    /// Waits until leases have run out and names them. They are named again until revoked.
    pub async fn expired(&self) -> Vec<i64> {
        loop {
            let changed = self.changed.notified();
            let expired = self.expired_now();
            if !expired.is_empty() {
                return expired;
            }
            let next = self.leading.lock().as_ref().and_then(|leading| leading.expiry.next_deadline_ms());
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

impl Leading {
    fn keep_alive(&mut self, id: i64, ttl_seconds: i64, now: u64) -> KeptAlive {
        if self.expiry.has_run_out(id, now) {
            return KeptAlive::RunOut;
        }
        // The deadline moves back: the sleeper looks again when it wakes.
        self.expiry.renew(id, ttl_seconds, now);
        KeptAlive::Renewed
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

    #[test]
    fn a_leader_is_sure_for_a_while_after_a_quorum_was_asked() {
        let lessor = Lessor::default();
        let check = |now: u64, sure: bool| {
            lessor.set_now_ms(now);
            assert_eq!(lessor.keep_alive_if_sure(1, 60), sure.then_some(KeptAlive::Renewed), "at {now} ms");
        };
        lessor.set_now_ms(100);
        lessor.confirm(100, 50);
        check(100, false);
        lessor.promote(&Leases::default());
        lessor.renew(1, 60);
        lessor.set_behind(false);
        check(100, false);
        lessor.confirm(99, 50);
        check(100, false);
        lessor.confirm(110, 50);
        check(120, true);
        lessor.confirm(105, 50);
        check(158, true);
        lessor.set_behind(true);
        check(158, false);
        lessor.set_behind(false);
        check(159, true);
        check(160, false);
        lessor.confirm(160, 50);
        lessor.doubt();
        lessor.confirm(160, 50);
        check(160, false);
        lessor.confirm(161, 50);
        check(170, true);
        lessor.hand_over();
        lessor.confirm(180, 50);
        check(180, false);
        lessor.demote();
        check(180, false);
    }
}
