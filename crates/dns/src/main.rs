//! `kube-dns`: Cluster DNS.

fn main() {}
