//! The wire format, generated from `proto/`.

#![allow(clippy::unwrap_used)]

pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
