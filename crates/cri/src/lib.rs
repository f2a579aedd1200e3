//! A CRI v1 client: one connection to the runtime's socket, every call with a deadline.
//!
//! This crate decides nothing. It dials lazily and again after a failure, so a runtime that
//! restarts is found again by the next call.

mod client;
pub mod events;

/// The wire types of `runtime.v1`.
pub mod v1 {
    #![allow(clippy::derive_partial_eq_without_eq, clippy::large_enum_variant, missing_docs)]
    tonic::include_proto!("runtime.v1");
}

pub use client::{Client, Error, Result};
