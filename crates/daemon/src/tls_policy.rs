//! Which versions of TLS and which cipher suites are spoken, by the names Go's programs give them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::tls::provider;

/// Names and versions, oldest first.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS1.2", &version::TLS12), ("TLS1.3", &version::TLS13)];
/// What Go also calls the suite of TLS 1.2 with this beginning.
const SHORT_CHACHA: &str = "_CHACHA20_POLY1305";

#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { versions: VERSIONS.map(|(_, version)| version).to_vec(), provider: provider() }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("unexpected TLS version {0:?}, use TLS1.2 or TLS1.3")]
    Version(String),
    #[error("the minimum TLS version is above the maximum")]
    Order,
    #[error("unexpected TLS cipher suite {name:?}, there are {known}")]
    Suite { name: String, known: String },
    #[error("TLS 1.3 has suites of its own, which cannot be chosen: cipher suites need TLS1.2")]
    NoEffect,
    #[error("none of the cipher suites is one of TLS 1.2, beyond which no version is allowed")]
    NothingLeft,
}

impl Policy {
    /// An empty version sets no bound. The suites are those of TLS 1.2; all of them if none is named. Those of TLS 1.3
    /// are always spoken, as in Go.
    pub fn new<'a>(min: &str, max: &str, suites: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let last = VERSIONS.len() - 1;
        let (min, max) = (position(min)?.unwrap_or(0), position(max)?.unwrap_or(last));
        if min > max {
            return Err(Error::Order);
        }
        let mut policy =
            Self { versions: VERSIONS[min..=max].iter().map(|(_, version)| *version).collect(), ..Self::default() };
        let named: Vec<&str> = suites.into_iter().collect();
        if named.is_empty() {
            return Ok(policy);
        }
        if min == last {
            return Err(Error::NoEffect);
        }
        let chosen = choose(&policy.provider.cipher_suites, &named)?;
        if max < last && !chosen.iter().any(is_chosen) {
            return Err(Error::NothingLeft);
        }
        policy.provider = Arc::new(CryptoProvider { cipher_suites: chosen, ..(*policy.provider).clone() });
        Ok(policy)
    }
}

fn position(name: &str) -> Result<Option<usize>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let found = VERSIONS.iter().position(|(known, _)| *known == name);
    found.map(Some).ok_or_else(|| Error::Version(name.to_owned()))
}

fn choose(known: &[SupportedCipherSuite], named: &[&str]) -> Result<Vec<SupportedCipherSuite>, Error> {
    for name in named {
        if !known.iter().any(|suite| is_called(suite, name)) {
            let known = known.iter().map(go_name).collect::<Vec<_>>().join(", ");
            return Err(Error::Suite { name: (*name).to_owned(), known });
        }
    }
    let chosen = |suite: &&SupportedCipherSuite| !is_chosen(suite) || named.iter().any(|name| is_called(suite, name));
    Ok(known.iter().filter(chosen).copied().collect())
}

/// Whether the names decide about it.
fn is_chosen(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_none()
}

fn go_name(suite: &SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replacen("TLS13_", "TLS_", 1)
}

fn is_called(suite: &SupportedCipherSuite, name: &str) -> bool {
    let full = go_name(suite);
    full == name || (name.ends_with(SHORT_CHACHA) && full.strip_suffix("_SHA256") == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(policy: &Policy) -> Vec<String> {
        policy.provider.cipher_suites.iter().filter(|suite| is_chosen(suite)).map(go_name).collect()
    }

    #[test]
    fn versions_and_suites_are_those_that_are_named() {
        let all = Policy::default();
        assert_eq!((all.versions.len(), names(&all).len()), (2, 6));
        let newest = Policy::new("TLS1.3", "", []).expect("known");
        assert_eq!(newest.versions, [&version::TLS13]);
        let two = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"];
        let two = Policy::new("TLS1.2", "TLS1.2", two).expect("known");
        assert_eq!(two.versions, [&version::TLS12]);
        let expected = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"];
        assert_eq!(names(&two), expected);
        assert!(two.provider.cipher_suites.iter().any(|suite| suite.tls13().is_some()), "those of TLS 1.3 stay");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |min, max, suites: &[&str]| Policy::new(min, max, suites.iter().copied()).expect_err("refused");
        assert_eq!(refused("TLS1.1", "", &[]), Error::Version("TLS1.1".to_owned()));
        assert_eq!(refused("TLS1.3", "TLS1.2", &[]), Error::Order);
        assert_eq!(refused("TLS1.3", "", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]), Error::NoEffect);
        assert_eq!(refused("", "TLS1.2", &["TLS_AES_128_GCM_SHA256"]), Error::NothingLeft);
        let old = refused("", "", &["TLS_RSA_WITH_AES_128_CBC_SHA"]).to_string();
        assert!(old.starts_with("unexpected TLS cipher suite \"TLS_RSA_WITH_AES_128_CBC_SHA\""), "{old}");
        assert!(old.contains("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), "{old}");
    }
}
