//! The wire format, generated from `proto/`.

// The names are those of the wire format.
#![allow(clippy::unwrap_used, clippy::enum_variant_names)]
// Of a wire format only a part is spoken here.
#![allow(dead_code)]

pub mod authpb {
    tonic::include_proto!("authpb");
}
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
