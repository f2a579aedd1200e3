//! Clients that do everything at once to an etcd-like store and write down what they asked and
//! were told, for the `history` crate to judge.
//!
//! - A [`Recorder`] carries requests out and keeps what came of them.
//! - A [`Worker`] says what one client asks next, from chance and from what it was shown.
//! - An [`observer`] receives what a watch is sent.
//!
//! Invariants
//! - Every request that was sent is recorded, whatever becomes of it.
//! - Values and leases are never used twice, so that what is seen tells who wrote it.

pub mod observer;
mod recorder;
mod wire;
mod worker;

pub use recorder::{Recorder, TICKS_PER_SECOND};
pub use worker::Worker;
