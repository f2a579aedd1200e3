//! From Services, EndpointSlices and facts of the node to the rules of kube-proxy's iptables mode, as text for
//! `iptables-restore`.
//!
//! This crate decides and never acts: no socket, clock, file or randomness. [`Model`] is fed objects as they change and
//! answers with the smallest restore input that brings the kernel's tables to the wanted state; chain names, their
//! hashes, comments, marks and probabilities are the ones that kube-proxy users know from `iptables-save`.

mod base;
mod config;
mod conntrack;
mod endpoint;
mod model;
mod names;
mod observed;
mod render;
mod rules;
mod service;
mod topology;

pub use base::{CANARY_CHAIN, CANARY_TABLES};
pub use config::{Config, Family, LocalDetector, NodePortAddresses};
pub use conntrack::StaleFlow;
pub use endpoint::{Endpoint, SliceKey};
pub use model::{HealthCheckPort, Model, Stats, Sync};
pub use names::{Protocol, ServiceKey, ServicePortName};
pub use observed::{Observed, cleanup};
pub use rules::{RuleSet, Table};
pub use service::ServicePort;
