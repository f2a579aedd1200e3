//! The commands that change the kernel's packet filter: `iptables` and its kin, and `conntrack`.
//!
//! They act in the network namespace of the process. Nothing here knows what the rules mean.

pub mod conntrack;
pub mod iptables;
#[cfg(feature = "testing")]
pub mod testing;

pub use iptables::Iptables;
