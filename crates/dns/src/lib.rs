//! kube-dns: the cluster's DNS server.
//!
//! [`records`] derives the names of one Service, [`index`] holds all names, [`zone`] answers questions from them, all
//! without IO; [`handler`] serves the answers over UDP and TCP and hands other names to [`forward`]. Names are answered
//! from memory, so the API server may be away.

pub mod cache;
pub mod cluster;
pub mod config;
pub mod forward;
pub mod handler;
pub mod index;
pub mod metrics;
pub mod records;
pub mod resolv_conf;
pub mod run;
pub mod server;
pub mod zone;
