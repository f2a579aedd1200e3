//! The wire formats, generated from `proto/`.

#![allow(clippy::unwrap_used)]

pub mod authpb {
    tonic::include_proto!("authpb");
}
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
pub mod kvraft {
    tonic::include_proto!("kvraft");
}
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
