//! `kube-proxy`: Watches Services and writes their rules into the kernel.

fn main() {}
