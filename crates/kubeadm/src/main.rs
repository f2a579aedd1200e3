//! `kubeadm`: init, join, reset and certs, as steps.

fn main() {}
