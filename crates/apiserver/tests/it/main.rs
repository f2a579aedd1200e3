//! The server against a real store, driven over TLS: etcd, or the store named by `COXSWAIN_TEST_STORE`.

mod access;
mod addresses;
mod apply;
mod certificates;
mod encodings;
mod harness;
mod kubectl;
mod refusals;
mod streams;
mod verbs;
mod versions;
mod watches;
