//! The steps of `kubeadm` that other tools share: the cluster's certificates and kubeconfigs on disk.

pub mod certs;
pub mod cli;
pub mod files;
