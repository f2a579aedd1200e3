//! The built `kube-store`, over mTLS, driven by etcd's clients: the `etcd-client` crate and
//! Debian's `etcdctl`.

mod crash;
mod etcdctl;
mod harness;
mod kv;
mod lease;
mod restart;
mod setup;
mod watch;
