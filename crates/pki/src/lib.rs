//! The cluster's trust: authorities, leaf certificates, service account keys and kubeconfigs, laid out as kubeadm
//! lays them out.
//!
//! Pure but for the system's random source, without which there are no keys: no files and no clock, `now` is an
//! argument. Writing to disk is the caller's.

pub mod authority;
pub mod inspect;
pub mod kubeconfig;
pub mod layout;

pub use authority::{Authority, Leaf, Pair, Usage, service_account_keys};
pub use inspect::Facts;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make a key or certificate")]
    Make(#[from] rcgen::Error),
    #[error("{0} is neither an IP address nor a DNS name")]
    Name(String),
    #[error("not a certificate: {0}")]
    Parse(String),
    #[error("the time is out of the range of X.509")]
    Time,
}
