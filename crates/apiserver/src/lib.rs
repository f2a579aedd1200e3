//! The API server: the REST and watch API of Kubernetes over a store that speaks etcd v3.
//!
//! Invariants: only this crate talks to the store. Objects are kept as bytes; reads come from the watch cache and copy
//! nothing. A write is one compare-and-swap. One place turns errors into a Status, one writes responses, one signs.
//! Nothing is served without authentication and RBAC.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod cache;
pub mod catalog;
pub mod config;
pub mod documents;
pub mod http;
pub mod metrics;
pub mod network;
pub mod object;
pub mod proxy;
pub mod rest;
pub mod server;
pub mod state;
pub mod store;
pub mod subresource;
mod wire;
