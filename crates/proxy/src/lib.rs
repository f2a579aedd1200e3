//! kube-proxy: watches Services, EndpointSlices and its Node, and keeps the node's iptables rules as they want them.
//!
//! What the rules are is decided by `proxyrules`; this crate carries it out. The rules outlive the process: they are
//! left in place when it stops, and when the API server cannot be reached.

pub mod cleanup;
pub mod config;
pub mod health;
pub mod http;
pub mod metrics;
pub mod node;
pub mod proxier;
pub mod run;
pub mod service_health;
