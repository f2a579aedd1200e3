//! One strategy per kind: what is filled in, what is refused, and what an update may change.
//!
//! Pure. The API server calls these in a fixed order; a strategy never looks at anything but its arguments.

mod decode;
pub mod defaults;
pub mod kinds;
pub mod strategy;
pub mod validation;
pub mod warnings;

pub use kinds::{Row, TABLE, strategy_for};
pub use strategy::{Context, Erased, Strategy};
