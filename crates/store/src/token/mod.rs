//! Tokens: what a client shows after it has shown its password.
//!
//! Simple ones are random, known to every member because their assignment went through the
//! log, and forgotten when a member restarts or when they were not used for a while. Signed
//! ones (`jwt`) carry everything in themselves.

mod jwt;
mod simple;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use jwt::Jwt;
pub use simple::Simple;

/// What the flags say of tokens, with the keys read.
#[derive(Debug, Clone)]
pub enum Config {
    Simple { ttl: Duration },
    Jwt(Jwt),
}

impl Config {
    /// Reads `--auth-token`: the kind, and behind commas its options.
    pub fn parse(text: &str, ttl: Duration) -> Result<Config> {
        let (kind, options) = text.split_once(',').unwrap_or((text, ""));
        let options = parse_options(options).with_context(|| format!("--auth-token={text}"))?;
        match kind {
            "simple" => {
                ensure!(options.is_empty(), "--auth-token={text}: simple tokens have no options");
                ensure!(!ttl.is_zero(), "--auth-token-ttl must be at least 1");
                Ok(Config::Simple { ttl })
            }
            "jwt" => Ok(Config::Jwt(Jwt::load(options).with_context(|| format!("--auth-token={text}"))?)),
            kind => bail!("--auth-token={kind} is neither simple nor jwt"),
        }
    }
}

fn parse_options(text: &str) -> Result<BTreeMap<&str, &str>> {
    let mut options = BTreeMap::new();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').with_context(|| format!("the option {option} has no value"))?;
        ensure!(options.insert(name, value).is_none(), "the option {name} is given twice");
    }
    Ok(options)
}

/// The tokens of this member.
pub enum Tokens {
    Simple(Simple),
    Jwt(Jwt),
}

impl From<Config> for Tokens {
    fn from(config: Config) -> Tokens {
        match config {
            Config::Simple { ttl } => Tokens::Simple(Simple::new(ttl)),
            Config::Jwt(jwt) => Tokens::Jwt(jwt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, words: &str) {
        let error = Config::parse(text, Duration::from_secs(1)).expect_err("a mistake");
        assert!(format!("{error:#}").contains(words), "{error:#}");
    }

    #[test]
    fn mistakes_are_named() {
        check("complex", "neither simple nor jwt");
        check("simple,ttl=5m", "no options");
        check("jwt", "sign-method");
        check("jwt,sign-method", "has no value");
        check("jwt,sign-method=RS256,sign-method=RS256", "given twice");
        check("jwt,sign-method=none", "sign-method=none");
        check("jwt,sign-method=RS256", "neither pub-key nor priv-key");
        check("jwt,sign-method=RS256,pub-key=/nowhere", "/nowhere");
        check("jwt,sign-method=RS256,key=x", "unknown option key");
        check("jwt,sign-method=RS256,ttl=soon", "ttl=soon");
        assert!(Config::parse("simple", Duration::ZERO).is_err());
    }
}
