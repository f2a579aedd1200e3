//! One way to talk to the API server: a client from a kubeconfig whose certificates are reloaded, informers, a work
//! queue, leader election and events. Thin over kube-rs.

pub mod connect;
pub mod informer;
pub mod kubeconfig;
pub mod leader;
pub mod queue;
pub mod recorder;

pub use connect::connect;
pub use informer::{Change, Informer, Key};
pub use kube;
pub use queue::Queue;
pub use recorder::Recorder;
