//! The schema model of every kind, and what follows from it: strict decoding and pruning, strategic merge, OpenAPI
//! and discovery documents.
//!
//! Pure: built from the generated types and a table of merge facts, without IO.

pub mod apply;
pub mod builtin;
pub mod decode;
pub mod discovery;
pub mod merge;
pub mod node;
pub mod openapi;

pub use builtin::Schemas;
pub use decode::{
    DecodeError, FieldValidation, check_claim, decode_json, decode_value, repeats, syntax_error, unrecognized,
};
pub use merge::{MergeError, strategic_merge};
pub use node::{Definition, Field, Gvk, Node, Object, Scalar, Shape};
