//! Who owns which field: field sets, server-side apply, and what plain updates do to ownership (KEP-555).
//!
//! An object's `metadata.managedFields` holds one set of paths per manager. An apply merges a configuration into the
//! object, takes away what its manager applied before and no longer does, and is refused where it would change what
//! others own. An update takes ownership of everything that it changes.

mod compare;
mod fields;
mod managed;
mod merge;
mod path;
mod prune;
mod reconcile;
mod set;
mod typed;

pub use managed::{Entry, Managed, ManagedError, Operation};
pub use path::{Element, show};
pub use reconcile::{ApplyError, Conflict, Request, apply, unchanged, update};
pub use set::FieldSet;
pub use typed::Misfit;

#[cfg(test)]
mod tests;
