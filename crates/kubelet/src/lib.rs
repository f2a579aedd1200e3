//! Drives containerd over CRI v1 to run the pods bound to this node.
//!
//! `podsync` decides; this crate observes, asks and carries out. Its only memory is the runtime's:
//! labels and annotations on sandboxes and containers tell a restarted kubelet all it needs.

pub mod app;
pub mod cgroups;
pub mod config;
pub mod container;
pub mod context;
pub mod events;
pub mod flags;
pub mod images;
pub mod node;
pub mod objects;
pub mod pods;
pub mod probes;
pub mod server;
pub mod streaming;
pub mod volumes;
