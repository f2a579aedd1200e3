//! kube-podnet: connects this node's pods to each other, to the other nodes' pods and to the world.
//!
//! [`plan`] decides, from the Nodes, what the CNI configuration, the routes and the rules shall be; the rest carries it
//! out. Everything is found again by its own name or number (configuration file, route protocol, chain names), so that
//! what is stale can be removed and what is foreign is left alone. Nothing is undone when the daemon stops.

pub mod cleanup;
pub mod cni;
pub mod config;
pub mod metrics;
pub mod plan;
pub mod routes;
pub mod rules;
pub mod run;
pub mod status;
pub mod sync;
pub mod sysctl;
