//! `kube-scheduler`: Queues, cache and binding around the pure scheduling core.

fn main() {}
