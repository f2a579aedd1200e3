//! What every daemon shares: flags, configuration files, tracing, the health and metrics server, signals, readiness
//! notification and certificates that are reloaded when their files change.
//!
//! Nothing here is global except the tracing subscriber, which `telemetry::init` installs once per process.

pub mod config;
pub mod health;
pub mod join;
pub mod metrics;
pub mod notify;
mod revoked;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod tls_policy;
pub mod trust;
pub mod watch_file;

pub use telemetry::LogArgs;
pub use tokio_util::sync::CancellationToken;

/// The version every daemon reports: the API it serves, and whose it is.
pub const VERSION: &str = "v1.36.0+coxswain";
