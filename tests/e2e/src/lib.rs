//! Whole-system tests: real daemons, real containerd, the real kubectl.

pub mod cases;
pub mod cluster;
pub mod harness;
pub mod host;
pub mod leader_killer;
