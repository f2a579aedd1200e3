//! The built `kube-store`, over mTLS, driven by etcd's clients: the `etcd-client` crate and
//! Debian's `etcdctl`.

mod auth;
mod auth_etcdctl;
mod crash;
mod etcdctl;
mod harness;
mod kv;
mod lease;
mod setup;
mod watch;
