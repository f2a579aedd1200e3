//! What the kubelet decides about one pod, as pure functions.
//!
//! `(pod, runtime state, probe results, memory, now) -> plan and status`. Nothing here reads a
//! clock, a file or a socket; the kubelet's pod worker observes, asks, and carries out.

pub mod admit;
pub mod backoff;
pub mod conditions;
pub mod duration;
pub mod eviction;
pub mod expand;
pub mod image_name;
pub mod labels;
pub mod memory;
pub mod phase;
pub mod plan;
pub mod pod;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod resources;
pub mod runtime;
pub mod status;
pub mod sysctl;

pub use backoff::Backoff;
pub use memory::Memory;
pub use plan::{Input, Job, Kill, Plan, Reason, Stage, Start, plan};
pub use probe::{Outcome, Probed};
pub use runtime::{Container, Exit, PodRuntime, Sandbox, State};
pub use status::status;

#[cfg(test)]
pub(crate) mod testing;
