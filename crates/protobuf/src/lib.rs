//! `application/vnd.kubernetes.protobuf`, to and from the JSON form of an object.
//!
//! Pure. There is no generated code: a table gives each message's tags, the schema model says what shape each field
//! has in JSON. Go writes every field that is no pointer, also when it is empty; what Go's JSON would leave out is
//! left out here too, as far as it cannot have been meant.

mod decode;
mod encode;
mod tags;
mod wire;

pub use decode::{Unknown, decode, envelope};
pub use encode::{encode, envelope_head, field, field_head, has_form, watch_frame, wrap};
pub use wire::Error;

pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
