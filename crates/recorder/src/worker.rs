//! One client: what it does next depends on chance and on what it was shown.

use std::collections::HashMap;

use ::history::{Answer, At, Compare, Delete, Keys, Outcome, Put, Range, Relation, Request, Target, Txn, TxnOp};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How far behind the newest revision a compaction goes.
const KEPT_REVISIONS: i64 = 200;
/// More than one client is granted.
const LEASES_PER_CLIENT: i64 = 1_000_000;

#[derive(Debug)]
pub struct Worker {
    pub number: u32,
    rng: StdRng,
    values: u32,
    leases: Vec<i64>,
    /// The last change it saw of a key.
    seen: HashMap<Bytes, i64>,
    newest: i64,
}

impl Worker {
    pub fn new(number: u32, seed: u64) -> Worker {
        let rng = StdRng::seed_from_u64(seed);
        Worker { number, rng, values: 0, leases: Vec::new(), seen: HashMap::new(), newest: 1 }
    }

    pub fn learn(&mut self, outcome: &Outcome) {
        let Outcome::Answered { revision, answer } = outcome else { return };
        self.newest = self.newest.max(*revision);
        if let Answer::Range(range) = answer {
            self.seen.extend(range.kvs.iter().map(|kv| (kv.key.clone(), kv.mod_revision)));
        }
    }

    fn key(&mut self) -> Bytes {
        let n = self.rng.random_range(0..12);
        Bytes::from(format!("{}/{n}", if n % 2 == 0 { "a" } else { "b" }))
    }

    fn keys(&mut self) -> Keys {
        match self.rng.random_range(0..6) {
            0 => Keys::all(),
            1 => Keys::Prefix(Bytes::from_static(b"a/")),
            _ => Keys::One(self.key()),
        }
    }

    fn put(&mut self) -> Put {
        self.values += 1;
        let value = Bytes::from(format!("{}.{}", self.number, self.values));
        let lease = if self.rng.random_ratio(1, 4) { self.leases.last().copied().unwrap_or(0) } else { 0 };
        Put { key: self.key(), value, lease, prev_kv: self.rng.random() }
    }

    pub fn request(&mut self) -> Request {
        match self.rng.random_range(0..40) {
            0..12 => Request::Put(self.put()),
            12..15 => Request::Delete(Delete { keys: self.keys(), prev_kv: self.rng.random() }),
            15..24 => Request::Txn(self.txn()),
            24..36 => self.range(),
            36 if self.newest > KEPT_REVISIONS => Request::Compact { revision: self.newest - KEPT_REVISIONS },
            36..38 => {
                let id = i64::from(self.number) * LEASES_PER_CLIENT
                    + i64::try_from(self.leases.len()).expect("few leases")
                    + 1;
                self.leases.push(id);
                // Some run out while the test is running, others do not.
                Request::LeaseGrant { id, ttl_seconds: if self.rng.random() { 1 } else { 60 } }
            }
            38 => Request::LeaseRevoke { id: self.leases.last().copied().unwrap_or(1) },
            _ => Request::LeaseKeepAlive { id: self.leases.last().copied().unwrap_or(1) },
        }
    }

    fn range(&mut self) -> Request {
        let limit = if self.rng.random_ratio(1, 4) { 2 } else { 0 };
        let at = match self.rng.random_range(0..4) {
            0 => At::Serializable,
            1 => At::Revision((self.newest - self.rng.random_range(0..20)).max(1)),
            _ => At::Latest,
        };
        Request::Range(Range { keys: self.keys(), limit }, at)
    }

    /// Swaps what it saw last, and reads what is there if that is no longer so.
    fn txn(&mut self) -> Txn {
        let put = self.put();
        let key = put.key.clone();
        let target = match self.seen.get(&key) {
            Some(revision) => Target::Mod(*revision),
            None => Target::Version(0),
        };
        let compare = vec![Compare { key: key.clone(), relation: Relation::Equal, target }];
        self.values += 1;
        let value = Bytes::from(format!("{}.{}", self.number, self.values));
        let both = Put { key: Bytes::from(format!("c/{}", self.number)), value, lease: 0, prev_kv: false };
        let read = TxnOp::Range(Range { keys: Keys::One(key), limit: 0 });
        Txn { compare, success: vec![TxnOp::Put(put), TxnOp::Put(both)], failure: vec![read] }
    }
}
