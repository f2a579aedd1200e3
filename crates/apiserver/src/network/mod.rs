//! What services need from the cluster's network: addresses and node ports that nobody else has, and the `kubernetes`
//! service itself.

mod addresses;
mod allocator;
pub mod kubernetes;
mod service;

pub use service::{Allocated, Services};
