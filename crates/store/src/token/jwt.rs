//! Signed tokens: user, revision and end of life, under a key that other programs may hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation};
use rustls::pki_types::PrivateSec1KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Deserializer, Serialize};

use crate::auth::{Caller, Error};
use crate::config::duration;

const DEFAULT_TTL: Duration = Duration::from_secs(300);
const OPTIONS: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];

/// The claims, under etcd's names.
#[derive(Debug, Serialize)]
struct Claims {
    username: String,
    revision: u64,
    exp: u64,
}

/// The claims as another issuer may write them: when it ends, from when on it counts, when it was signed, in seconds and
/// parts of them. The revision bounds a token without an end.
#[derive(Debug, Deserialize)]
struct Shown {
    username: String,
    revision: u64,
    #[serde(default, deserialize_with = "number")]
    exp: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    iat: Option<f64>,
}

/// What is there is one: `null` is a slip, not a token without an end.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(deserializer).map(Some)
}

impl Shown {
    fn is_valid(&self, now: f64) -> bool {
        self.exp.is_none_or(|end| now <= end) && self.nbf.into_iter().chain(self.iat).all(|begin| begin <= now)
    }
}

#[derive(Clone)]
pub struct Jwt {
    algorithm: Algorithm,
    /// Without it tokens are checked but not given.
    sign: Option<Arc<EncodingKey>>,
    verify: Arc<DecodingKey>,
    validation: Arc<Validation>,
    ttl: Duration,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("algorithm", &self.algorithm).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the options of `--auth-token jwt` and the keys that they name.
    pub(super) fn load(options: BTreeMap<&str, &str>) -> Result<Jwt> {
        let unknown = options.keys().find(|name| !OPTIONS.contains(name));
        ensure!(unknown.is_none(), "unknown option {}", unknown.copied().unwrap_or_default());
        let method = *options.get("sign-method").context("the option sign-method is missing")?;
        let algorithm: Algorithm = method.parse().ok().with_context(|| format!("sign-method={method} is not known"))?;
        let ttl = match options.get("ttl") {
            None => DEFAULT_TTL,
            Some(ttl) => duration(ttl).with_context(|| format!("ttl={ttl} is no duration"))?,
        };
        let read = |name: &str| {
            let file = options.get(name).map(|path| std::fs::read(path).with_context(|| format!("cannot read {path}")));
            file.transpose()
        };
        let (sign, verify) = keys(algorithm, read("priv-key")?, read("pub-key")?)?;
        let mut validation = Validation::new(algorithm);
        validation.validate_aud = false;
        // Judged with the claims: here numbers alone would be, and other claims count as absent.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let jwt = Jwt {
            algorithm,
            sign: sign.map(Arc::new),
            verify: Arc::new(verify),
            validation: Arc::new(validation),
            ttl,
        };
        jwt.check_pair()?;
        Ok(jwt)
    }

    /// What one key signs the other must accept.
    fn check_pair(&self) -> Result<()> {
        if self.sign.is_none() {
            return Ok(());
        }
        let probe = self.sign("", 0, now_seconds() + 60).context("priv-key cannot sign by sign-method")?;
        ensure!(self.decode(&probe).is_some(), "public and private keys don't match");
        Ok(())
    }

    fn sign(&self, user: &str, revision: u64, exp: u64) -> Result<String> {
        let key = self.sign.as_deref().context("token signing attempted with verify-only key")?;
        let claims = Claims { username: user.to_owned(), revision, exp };
        Ok(jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key)?)
    }

    fn decode(&self, token: &str) -> Option<Shown> {
        let shown: Shown = jsonwebtoken::decode(token, &self.verify, &self.validation).ok()?.claims;
        shown.is_valid(now().as_secs_f64()).then_some(shown)
    }

    /// A token for a user whose password was right at this revision.
    pub fn assign(&self, user: &str, revision: u64) -> Result<String> {
        self.sign(user, revision, now_seconds() + self.ttl.as_secs())
    }

    /// The revision counts that the token was signed at.
    pub fn caller(&self, token: &str) -> Result<Caller, Error> {
        let claims = self.decode(token).ok_or(Error::InvalidToken)?;
        Ok(Caller { user: claims.username, revision: claims.revision })
    }
}

type Keys = (Option<EncodingKey>, DecodingKey);

fn keys(algorithm: Algorithm, private: Option<Vec<u8>>, public: Option<Vec<u8>>) -> Result<Keys> {
    let family = algorithm.family();
    if family == AlgorithmFamily::Hmac {
        let secret = private.context("priv-key is missing")?;
        return Ok((Some(EncodingKey::from_secret(&secret)), DecodingKey::from_secret(&secret)));
    }
    let sign =
        private.map(|pem| private_key(algorithm, &pem).context("priv-key is no key for sign-method")).transpose()?;
    let verify = match (public, &sign) {
        (Some(pem), _) => public_key(family, &pem).context("pub-key is no key for sign-method")?,
        (None, Some(sign)) => Jwk::from_encoding_key(sign, algorithm)
            .and_then(|jwk| DecodingKey::from_jwk(&jwk))
            .context("priv-key is no key for sign-method")?,
        (None, None) => bail!("neither pub-key nor priv-key is given"),
    };
    Ok((sign, verify))
}

fn private_key(algorithm: Algorithm, pem: &[u8]) -> jsonwebtoken::errors::Result<EncodingKey> {
    match algorithm.family() {
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => match PrivateSec1KeyDer::from_pem_slice(pem) {
            Ok(key) => Ok(EncodingKey::from_ec_der(&as_pkcs8(algorithm, key.secret_sec1_der()))),
            Err(_) => EncodingKey::from_ec_pem(pem),
        },
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(pem)),
    }
}

/// As `openssl ecparam -genkey` writes it, in the form that is read here: RFC 5958 around RFC 5915.
fn as_pkcs8(algorithm: Algorithm, sec1: &[u8]) -> Vec<u8> {
    const VERSION: &[u8] = &[2, 1, 0];
    const EC_PUBLIC_KEY: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const PRIME256V1: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const SECP384R1: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x22];
    let curve = if algorithm == Algorithm::ES384 { SECP384R1 } else { PRIME256V1 };
    der(0x30, &[VERSION, &der(0x30, &[EC_PUBLIC_KEY, curve]), &der(4, &[sec1])])
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = content.len().to_be_bytes();
    let len: &[u8] = match content.len() {
        0..0x80 => &len[len.len() - 1..],
        0x80..0x100 => &[0x81, len[len.len() - 1]],
        _ => &[0x82, len[len.len() - 2], len[len.len() - 1]],
    };
    [&[tag], len, &content].concat()
}

fn public_key(family: AlgorithmFamily, pem: &[u8]) -> jsonwebtoken::errors::Result<DecodingKey> {
    match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
        AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(pem)),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now_seconds() -> u64 {
    now().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ES256 key pair in files of the given names.
    fn write_keys(dir: &std::path::Path, private: &str, public: &str) {
        let key = rcgen::KeyPair::generate().expect("randomness");
        std::fs::write(dir.join(private), key.serialize_pem()).expect("writable");
        std::fs::write(dir.join(public), key.public_key_pem()).expect("writable");
    }

    fn load(dir: &std::path::Path, private: &str, public: &str) -> Result<Jwt> {
        let path = |name: &str| dir.join(name).display().to_string();
        let (private, public) = (path(private), path(public));
        let mut options = BTreeMap::from([("sign-method", "ES256")]);
        if !private.ends_with('/') {
            options.insert("priv-key", &private);
        }
        if !public.ends_with('/') {
            options.insert("pub-key", &public);
        }
        Jwt::load(options)
    }

    #[test]
    fn what_one_key_signs_the_other_accepts() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_keys(dir.path(), "a.key", "a.pub");
        write_keys(dir.path(), "b.key", "b.pub");
        let both = load(dir.path(), "a.key", "a.pub").expect("a pair");
        let private = load(dir.path(), "a.key", "").expect("the public one is part of the private one");
        let public = load(dir.path(), "", "a.pub").expect("enough to check");
        let other = load(dir.path(), "b.key", "b.pub").expect("a pair");
        let mismatch = load(dir.path(), "a.key", "b.pub").expect_err("no pair");
        assert!(mismatch.to_string().contains("don't match"), "{mismatch:#}");

        let token = both.assign("ann", 7).expect("a key to sign with");
        let ann = Caller { user: "ann".to_owned(), revision: 7 };
        for jwt in [&both, &private, &public] {
            assert_eq!(jwt.caller(&token), Ok(ann.clone()));
        }
        assert_eq!(other.caller(&token), Err(Error::InvalidToken));
        assert_eq!(both.caller("nonsense"), Err(Error::InvalidToken));
        assert!(public.assign("ann", 7).is_err());
        let old = both.sign("ann", 7, now_seconds() - 1).expect("a key to sign with");
        assert_eq!(both.caller(&old), Err(Error::InvalidToken));
    }

    /// A token that names another algorithm, or none, is not checked by that one.
    #[test]
    fn the_algorithm_is_not_the_tokens_choice() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_keys(dir.path(), "a.key", "a.pub");
        let jwt = load(dir.path(), "a.key", "a.pub").expect("a pair");
        let public = std::fs::read(dir.path().join("a.pub")).expect("written above");
        let claims = Claims { username: "root".to_owned(), revision: 9, exp: now_seconds() + 60 };
        let key = EncodingKey::from_secret(&public);
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a secret signs");
        assert_eq!(jwt.caller(&forged), Err(Error::InvalidToken));
        let (_, body) = forged.split_once('.').expect("three parts");
        let (body, _) = body.split_once('.').expect("three parts");
        // {"alg":"none"}
        assert_eq!(jwt.caller(&format!("eyJhbGciOiJub25lIn0.{body}.")), Err(Error::InvalidToken));
    }

    /// What `openssl ecparam -genkey` wrote.
    #[test]
    fn a_key_may_be_of_the_older_form() {
        const KEYS: [(&str, &str); 2] = [
            (
                "ES256",
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIJgOUDXZK5hVnMVovgVMTpw4i1Raarw/96MfbLTmNpksoAoGCCqGSM49\nAwEHoUQDQgAEeTlDVEmWEBAe6j83W9kQa67UMbSTSR7IWxAs9aSxIjkmOveiQobK\njFjYcZRenTYBbhuDDOK6LauLrjr03sBitA==\n-----END EC PRIVATE KEY-----",
            ),
            (
                "ES384",
                "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMIGkAgEBBDDnve5FxK5qNIillG5s2oM92Q0ZzjcS4rKYp+UQUQkG8d6ZGfjotxHx\nQcdtWhw5AbigBwYFK4EEACKhZANiAAST+yLnN4f81gk74pl2eq8YUqjRf/tj0ysQ\nV9ewp4wlYmpGG0qL1kMUE/u//NqZE2xJM0KhEbpFNyUAJp4ako+agziRY4XV+1dC\nv4v7UbRnbyDD0CSBeDKnBIiH9+YC6+M=\n-----END EC PRIVATE KEY-----",
            ),
        ];
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (method, pem) in KEYS {
            let path = dir.path().join(method);
            std::fs::write(&path, pem).expect("writable");
            let path = path.display().to_string();
            let jwt = Jwt::load(BTreeMap::from([("sign-method", method), ("priv-key", path.as_str())])).expect("a key");
            let token = jwt.assign("ann", 7).expect("a key to sign with");
            assert_eq!(jwt.caller(&token).map(|caller| caller.user).as_deref(), Ok("ann"));
        }
    }

    #[test]
    fn a_token_counts_while_its_issuer_says_so() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_keys(dir.path(), "a.key", "a.pub");
        let jwt = load(dir.path(), "a.key", "a.pub").expect("a pair");
        let key = jwt.sign.as_deref().expect("it was given");
        let now = now_seconds();
        let check = |times: serde_json::Value, counts: bool| {
            let mut claims = serde_json::json!({"username": "ann", "revision": 7});
            claims.as_object_mut().expect("one").extend(times.as_object().expect("one").clone());
            let token = jsonwebtoken::encode(&Header::new(jwt.algorithm), &claims, key).expect("a key signs");
            assert_eq!(jwt.caller(&token).is_ok(), counts, "{times}");
        };
        check(serde_json::json!({}), true);
        check(serde_json::json!({"exp": now + 60, "nbf": now - 60, "iat": now - 60}), true);
        check(serde_json::json!({"exp": now as f64 + 60.5}), true);
        check(serde_json::json!({"exp": now - 60}), false);
        check(serde_json::json!({"exp": now + 60, "nbf": now + 30}), false);
        check(serde_json::json!({"exp": now + 60, "iat": now + 30}), false);
        check(serde_json::json!({"exp": now + 60, "nbf": "now"}), false);
        check(serde_json::json!({"exp": "never"}), false);
        check(serde_json::json!({"exp": null}), false);
    }
}
