//! The scheduler's decisions: which node a pod goes to, why not the others, and whom to evict for it.
//!
//! Everything here is a function of its arguments: no clock, no randomness, no IO. A decision follows from
//! ([`Snapshot`], pod, seed) alone, so it can be recorded, replayed and explained. A rule is one file under
//! `plugins/` and one row of [`plugins::TABLE`].

pub mod diagnosis;
pub mod event;
pub mod framework;
pub mod labels;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod ports;
pub mod profile;
pub mod quantity;
pub mod resources;
pub mod schedule;
pub mod selector;
pub mod snapshot;
pub mod taints;
#[cfg(test)]
mod testing;
mod topology;

pub use diagnosis::Diagnosis;
pub use event::Event;
pub use framework::Rejection;
pub use node::NodeInfo;
pub use pod::PodInfo;
pub use profile::Profile;
pub use schedule::{Decision, Outcome, schedule};
pub use snapshot::Snapshot;
