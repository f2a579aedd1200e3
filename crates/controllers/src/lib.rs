//! Controllers as pure functions: `plan(observed, now) -> Plan`, one file (or folder) per controller.
//!
//! Nothing here does IO, reads a clock or draws a random number. A controller is handed the objects its shell found
//! in the informers' caches and says what to write; running the same plan twice from the same state yields the same
//! answer, so it may be interrupted between any two writes.

pub mod backoff;
pub mod claim;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod hash;
pub mod job;
pub mod meta;
pub mod node_match;
pub mod plan;
pub mod pods;
pub mod replica_set;
pub mod replicas;
pub mod replication_controller;
pub mod revision;
pub mod schedule;
pub mod selector;
pub mod stateful_set;

pub use plan::{Failure, Kind, Op, Plan};
