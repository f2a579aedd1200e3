//! `kube-podnet`: CNI configuration, pod routes and masquerade.

fn main() {}
