//! `kube-apiserver`: The REST and watch API, and the only client of the store.

fn main() {}
