//! Leases: which exist and what is attached to them ([`Leases`], replicated), and when they
//! run out ([`Expiry`], in the leader's memory only).
//!
//! The two are apart because renewing must not cost a log entry. Whoever becomes leader
//! grants every lease again in full: a lease may live longer than its TTL, never shorter.
//!
//! # Worked example
//!
//! ```text
//! at 0 s    grant 7 for 10 s, put k with it     Leases { 7: 10 s, {k} }    Expiry { 7: 10 s }
//! at 6 s    7 is kept alive                     as before                  Expiry { 7: 16 s }
//! at 8 s    another member becomes leader       as before                  Expiry { 7: 18 s }, its own
//! at 18 s   7 has run out: revoked by the log   Leases { }, k is deleted   Expiry { }
//! ```
//!
//! What is put again without the lease, or with another, leaves it: a revocation deletes the keys that are attached then.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::Error;

/// etcd's bound: about 285 years.
pub const MAX_TTL_SECONDS: i64 = 9_000_000_000;
/// What a lease costs beside the keys that are attached to it.
pub const LEASE_BYTES: usize = 300;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lease {
    pub ttl_seconds: i64,
    pub keys: BTreeSet<Bytes>,
}

/// The leases that exist, with their keys.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<i64, Lease>,
}

impl Leases {
    pub fn grant(&mut self, id: i64, ttl_seconds: i64) -> Result<(), Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl_seconds > MAX_TTL_SECONDS {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.by_id.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let keys = BTreeSet::new();
        self.by_id.insert(id, Lease { ttl_seconds, keys });
        Ok(())
    }

    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        self.by_id.remove(&id)
    }

    /// Moves a key from the lease of its old version to that of its new one; 0 is none.
    pub(crate) fn reattach(&mut self, key: &Bytes, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.by_id.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }
}

/// When each lease runs out, on the caller's monotonic clock.
#[derive(Debug, Default)]
pub struct Expiry {
    deadlines: HashMap<i64, u64>,
    queue: BTreeSet<(u64, i64)>,
}

impl Expiry {
    /// Every lease in full from now on: what a new leader, or a restarted one, begins with.
    pub fn promote(leases: &Leases, now_ms: u64) -> Expiry {
        let mut expiry = Expiry::default();
        for (id, lease) in leases.iter() {
            expiry.renew(id, lease.ttl_seconds, now_ms);
        }
        expiry
    }

    pub fn renew(&mut self, id: i64, ttl_seconds: i64, now_ms: u64) {
        self.remove(id);
        let ttl_ms = u64::try_from(ttl_seconds).unwrap_or(0).saturating_mul(1000);
        let deadline = now_ms.saturating_add(ttl_ms);
        self.deadlines.insert(id, deadline);
        self.queue.insert((deadline, id));
    }

    pub fn remove(&mut self, id: i64) {
        if let Some(deadline) = self.deadlines.remove(&id) {
            self.queue.remove(&(deadline, id));
        }
    }

    /// Up to `limit` leases that have run out, the longest overdue first. They stay listed
    /// until removed, so that a revocation that failed is tried again.
    pub fn expired(&self, now_ms: u64, limit: usize) -> Vec<i64> {
        self.queue.iter().take_while(|(deadline, _)| *deadline <= now_ms).take(limit).map(|(_, id)| *id).collect()
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// Whether a lease that is known here is past its deadline.
    pub fn has_run_out(&self, id: i64, now_ms: u64) -> bool {
        self.deadlines.get(&id).is_some_and(|deadline| *deadline <= now_ms)
    }

    /// What is left of a lease, in whole seconds, as etcd counts: what is begun does not.
    pub fn remaining_seconds(&self, id: i64, now_ms: u64) -> Option<i64> {
        let left_ms = self.deadlines.get(&id)?.saturating_sub(now_ms);
        Some(i64::try_from(left_ms / 1000).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_run_out_in_order_and_renewal_moves_them() {
        let mut leases = Leases::default();
        leases.grant(1, 5).expect("a new lease");
        leases.grant(2, 3).expect("a new lease");
        assert_eq!(leases.grant(2, 3), Err(Error::LeaseExists));
        assert_eq!(leases.grant(3, i64::MAX), Err(Error::LeaseTtlTooLarge));

        let mut expiry = Expiry::promote(&leases, 1_000);
        assert_eq!(expiry.next_deadline_ms(), Some(4_000));
        assert_eq!(expiry.expired(3_999, 10), Vec::<i64>::new());
        assert_eq!(expiry.expired(6_000, 10), vec![2, 1]);
        assert_eq!(expiry.expired(6_000, 1), vec![2]);

        expiry.renew(2, 3, 4_000);
        assert_eq!(expiry.expired(6_000, 10), vec![1]);
        assert_eq!(expiry.remaining_seconds(2, 4_001), Some(2));
        expiry.remove(1);
        assert_eq!(expiry.next_deadline_ms(), Some(7_000));
    }
}
