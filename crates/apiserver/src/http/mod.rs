//! HTTP: what a request says, how an answer is written, and serving both over TLS.

pub mod accept;
pub mod body;
pub mod chain;
pub mod gzip;
pub mod inflight;
pub mod info;
pub mod query;
pub mod reply;
pub mod request;
pub mod serve;
