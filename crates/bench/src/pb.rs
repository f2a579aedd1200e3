//! The wire format, generated from `proto/`.

// The names are those of the wire format.
#![allow(clippy::unwrap_used, clippy::enum_variant_names)]
// Of a wire format only a part is spoken here.
#![allow(dead_code)]

pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
