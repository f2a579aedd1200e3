//! The rows. One file each, and one line in [`KINDS`].

mod lease;
mod mixed;
mod put;
mod range;
mod txn_put;
mod watch;

use anyhow::{Context, Result};
use bytes::Bytes;
use rand::RngCore;

use crate::environment::Environment;

/// Keys that a workload picks from.
const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 256;

/// What a row is about: requests per second, of which more is better, or a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Milliseconds,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "1/s",
            Unit::Milliseconds => "ms",
        }
    }
}

/// One of many that ask, wait for the answer, and ask again.
#[async_trait::async_trait]
pub trait Client: Send {
    /// One request and its answer. Returns how many writes were acknowledged.
    async fn request(&mut self) -> Result<u64>;
}

pub type Clients = Vec<Box<dyn Client>>;

/// Fills the store and returns the clients that will load it.
#[async_trait::async_trait]
pub trait Workload: Send + Sync {
    async fn prepare(&self, environment: &Environment, clients: usize) -> Result<Clients>;
}

pub struct Kind {
    pub name: &'static str,
    pub about: &'static str,
    pub unit: Unit,
    pub workload: &'static dyn Workload,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

pub const KINDS: &[Kind] = &[
    Kind { name: "put", about: "put of 256 B to one of 10,000 keys", unit: Unit::PerSecond, workload: &put::Workload },
    Kind {
        name: "txn-put",
        about: "compare of mod_revision and put of 256 B in a transaction; no two clients share a key",
        unit: Unit::PerSecond,
        workload: &txn_put::Workload,
    },
    Kind {
        name: "range",
        about: "linearizable read of one of 10,000 keys of 256 B",
        unit: Unit::PerSecond,
        workload: &range::Workload { serializable: false },
    },
    Kind {
        name: "range-serializable",
        about: "serializable read of one of 10,000 keys of 256 B",
        unit: Unit::PerSecond,
        workload: &range::Workload { serializable: true },
    },
    Kind {
        name: "watch-fan-out",
        about: "from sending one put to its delivery at the last of N watchers, each on a stream of its own",
        unit: Unit::Milliseconds,
        workload: &watch::Workload,
    },
    Kind {
        name: "lease-keepalive",
        about: "keep-alives answered; each client has a stream and 10 leases",
        unit: Unit::PerSecond,
        workload: &lease::Workload,
    },
    Kind {
        name: "mixed",
        about: "of 10,000 objects of 2 KiB in 20 prefixes: 45 % gets, 45 % ranges of a prefix with limit 10, \
                10 % updates by transaction (compare mod_revision, put, else get), tried again after a conflict",
        unit: Unit::PerSecond,
        workload: &mixed::Workload,
    },
];

/// The rows of these names, or all.
pub fn named(names: &[String]) -> Result<Vec<&'static Kind>> {
    if names.is_empty() {
        return Ok(KINDS.iter().collect());
    }
    let known = || KINDS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| KINDS.iter().find(|k| k.name == name);
    names.iter().map(|name| find(name).with_context(|| format!("{name} is none of {}", known()))).collect()
}

/// Bytes that do not compress.
pub fn value(bytes: usize) -> Bytes {
    let mut value = vec![0; bytes];
    rand::rng().fill_bytes(&mut value);
    value.into()
}
