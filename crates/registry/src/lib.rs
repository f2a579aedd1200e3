//! One strategy per kind: what is filled in, what is refused, and what an update may change.
//!
//! Pure. The API server calls these in a fixed order; a strategy never looks at anything but its arguments.

pub mod strategy;

pub use strategy::{Context, Erased, Strategy};
