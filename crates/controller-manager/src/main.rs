//! `kube-controller-manager`: Informers in, one executor out.

fn main() {}
