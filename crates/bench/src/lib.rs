//! kube-store and etcd under the same load, side by side.
//!
//! Invariants
//! - Both sides get the same flags where they mean the same, the same disk, the same client
//!   code and the same number of connections.
//! - Never both under load at once: rounds alternate, and a round begins when the processes of
//!   both sides are at rest.
//! - Rounds in which the host took much of the processors' time away are measured again, on both
//!   sides; how much it took in those that count is part of the report.
//! - The client is kept thin, no more of HTTP/2 than gRPC needs, and what it takes of the
//!   processor is part of the report.
//! - Every process and every file is gone when the run ends, however it ends.

mod calls;
mod certificates;
mod chart;
mod cluster;
mod connection;
mod disk;
mod document;
mod environment;
mod fill;
pub mod flags;
mod headers;
mod http2;
mod load;
mod measure;
mod pb;
mod process;
mod processors;
mod progress;
mod report;
mod run;
mod workloads;

pub use run::run;
