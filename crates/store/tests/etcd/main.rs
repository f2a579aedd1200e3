//! The built `kube-store`, over mTLS, driven by etcd's clients: the `etcd-client` crate and
//! Debian's `etcdctl`.

mod auth;
mod auth_cluster;
mod auth_etcdctl;
mod cluster;
mod concurrency;
mod connections;
mod crash;
mod damage;
mod ending;
mod etcdctl;
#[cfg(feature = "failpoints")]
mod failpoints;
mod harness;
mod history;
mod kv;
mod lease;
mod restart;
mod setup;
mod tls;
mod watch;
