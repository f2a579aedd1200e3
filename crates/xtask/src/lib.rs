//! What hack/ runs: clusters up and down, images, checks.

pub mod bench;
pub mod cluster;
pub mod cni_results;
pub mod down;
pub mod images;
pub mod network;
pub mod node_config;
pub mod oci;
pub mod registry;
pub mod reservation;
pub mod steps;
pub mod sweep;
pub mod unit;
pub mod units;
pub mod up;
