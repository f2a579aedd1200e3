//! An embedded Raft key-value store that speaks etcd v3.
pub mod pb;
