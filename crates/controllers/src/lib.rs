//! Controllers as pure functions: `plan(observed, now) -> Plan`, one file (or folder) per controller.
//!
//! Nothing here does IO, reads a clock or draws a random number. A controller is handed the objects its shell found
//! in the informers' caches and says what to write; running the same plan twice from the same state yields the same
//! answer, so it may be interrupted between any two writes.

pub mod backoff;
pub mod claim;
pub mod cluster_role;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoint_slice_mirroring;
pub mod endpoints;
pub mod garbage;
pub mod hash;
pub mod job;
pub mod meta;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_match;
pub mod plan;
pub mod pod_gc;
pub mod pods;
pub mod replica_set;
pub mod replicas;
pub mod replication_controller;
pub mod revision;
pub mod schedule;
pub mod selector;
pub mod service_account;
pub mod service_account_token;
pub mod service_cidr;
pub mod service_pods;
pub mod stateful_set;
pub mod taint_eviction;
pub mod template;
#[cfg(test)]
mod testing;
pub mod ttl_after_finished;

pub use plan::{Failure, Kind, Op, Plan};
