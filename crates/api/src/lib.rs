//! The vocabulary of the API, shared by every crate that speaks it: the resource table, `Status` errors, field
//! paths, selectors, quantities, names and object metadata.
//!
//! Pure: nothing here does IO, reads a clock or holds global state.

pub mod conversion;
pub mod duration;
pub mod field;
pub mod meta;
pub mod names;
pub mod objectmeta;
pub mod printers;
pub mod quantity;
pub mod resources;
pub mod selector;
pub mod status;
pub mod table;

pub use field::{ErrorList, Path};
pub use k8s_openapi;
pub use status::ApiError;
