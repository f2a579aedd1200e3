//! Service account tokens: signed here (the one place that signs), verified here, and checked against the cache every
//! time, so that a token dies with the account, pod, secret or node it is bound to.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{User, legacy_token};
use crate::cache::{Cache, Caches};

pub(super) const PREFIX: &str = "system:serviceaccount:";
/// Clocks of token issuers and users may differ by this.
const LEEWAY_SECONDS: u64 = 10;
/// Longer than any token that we or upstream make.
const MAX_TOKEN: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} holds no public key in PEM")]
    PublicKey(String),
    #[error("{0} holds neither an RSA nor an ECDSA P-256 private key in PEM")]
    PrivateKey(String),
    #[error("the signing key does not belong to any of the service account keys")]
    Unpaired,
    #[error("signing the token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    #[error("the token is not valid: {0}")]
    Token(#[source] jsonwebtoken::errors::Error),
    #[error("the token is not one of ours")]
    Foreign,
    #[error("token audiences {given:?} is invalid for the target audiences {wanted:?}")]
    Audience { given: Vec<String>, wanted: Vec<String> },
    #[error("{0} has been deleted")]
    Gone(String),
    #[error("the token does not match the server's copy")]
    Replaced,
    #[error(
        "the token in secret {secret} has been marked invalid. Use tokens from the TokenRequest API or manually created \
         secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to \
         temporarily allow use of this token"
    )]
    Withdrawn { secret: String },
}

struct VerifyingKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
    jwk: Value,
}

struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

pub struct Tokens {
    issuer: String,
    audiences: Vec<String>,
    verifying: Vec<VerifyingKey>,
    signing: SigningKey,
    caches: Arc<Caches>,
}

/// The keys as they were read: (file name, PEM).
pub struct Keys {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub public: Vec<(String, Vec<u8>)>,
    pub signing: (String, Vec<u8>),
}

/// An object that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Private {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    pub serviceaccount: Ref,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default)]
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default)]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
    pub nbf: i64,
    pub sub: String,
}

/// A token that holds: whose it is, and for which of the asked audiences.
#[derive(Debug)]
pub struct Authenticated {
    pub user: User,
    pub audiences: Vec<String>,
}

impl Keys {
    /// Fails on unusable keys; call before anything is served.
    pub fn load(self, caches: Arc<Caches>) -> Result<Tokens, Error> {
        let verifying: Vec<VerifyingKey> =
            self.public.iter().map(|(file, pem)| verifying_key(file, pem)).collect::<Result<_, _>>()?;
        let (file, pem) = &self.signing;
        let (algorithm, key) = private_key(pem).ok_or_else(|| Error::PrivateKey(file.clone()))?;
        let kid = paired(&verifying, algorithm, &key)?;
        let signing = SigningKey { kid, algorithm, key };
        Ok(Tokens { issuer: self.issuer, audiences: self.audiences, verifying, signing, caches })
    }
}

/// The id of the public key that verifies what this private key signs.
fn paired(verifying: &[VerifyingKey], algorithm: Algorithm, key: &EncodingKey) -> Result<String, Error> {
    let probe = jsonwebtoken::encode(&Header::new(algorithm), &json!({}), key).map_err(Error::Sign)?;
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let fits = |k: &&VerifyingKey| {
        k.algorithm == algorithm && jsonwebtoken::decode::<Value>(&probe, &k.key, &validation).is_ok()
    };
    verifying.iter().find(fits).map(|k| k.kid.clone()).ok_or(Error::Unpaired)
}

fn private_key(pem: &[u8]) -> Option<(Algorithm, EncodingKey)> {
    let ecdsa = || EncodingKey::from_ec_pem(pem).ok().map(|key| (Algorithm::ES256, key));
    EncodingKey::from_rsa_pem(pem).ok().map(|key| (Algorithm::RS256, key)).or_else(ecdsa)
}

fn verifying_key(file: &str, pem: &[u8]) -> Result<VerifyingKey, Error> {
    let unusable = || Error::PublicKey(file.to_owned());
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| unusable())?;
    if block.label != "PUBLIC KEY" {
        return Err(unusable());
    }
    let (_, info) = SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| unusable())?;
    let kid = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&block.contents));
    let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    match info.parsed().map_err(|_| unusable())? {
        PublicKey::RSA(rsa) => {
            let modulus = rsa.modulus.iter().position(|b| *b != 0).map_or(rsa.modulus, |at| &rsa.modulus[at..]);
            let jwk = json!({
                "use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": b64(modulus), "e": b64(rsa.exponent),
            });
            let key = DecodingKey::from_rsa_pem(pem).map_err(|_| unusable())?;
            Ok(VerifyingKey { kid, algorithm: Algorithm::RS256, key, jwk })
        }
        PublicKey::EC(point) => {
            const COORDINATE: usize = 32;
            let data = point.data();
            if data.len() != 1 + 2 * COORDINATE {
                return Err(unusable());
            }
            let (x, y) = data[1..].split_at(COORDINATE);
            let jwk = json!({
                "use": "sig", "kty": "EC", "kid": kid, "crv": "P-256", "alg": "ES256", "x": b64(x), "y": b64(y),
            });
            let key = DecodingKey::from_ec_pem(pem).map_err(|_| unusable())?;
            Ok(VerifyingKey { kid, algorithm: Algorithm::ES256, key, jwk })
        }
        _ => Err(unusable()),
    }
}

impl Tokens {
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn jwks(&self) -> Value {
        json!({"keys": self.verifying.iter().map(|k| k.jwk.clone()).collect::<Vec<_>>()})
    }

    pub fn algorithms(&self) -> Vec<String> {
        let mut names: Vec<String> = self.verifying.iter().map(|k| format!("{:?}", k.algorithm)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The one place that signs.
    pub fn sign(
        &self,
        private: Private,
        audiences: Vec<String>,
        now: Timestamp,
        seconds: i64,
    ) -> Result<String, Error> {
        let issued = now.as_second();
        let claims = Claims {
            aud: audiences,
            exp: issued + seconds,
            iat: issued,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: issued,
            sub: format!("{PREFIX}{}:{}", private.namespace, private.serviceaccount.name),
            private,
        };
        let header = Header { kid: Some(self.signing.kid.clone()), typ: None, ..Header::new(self.signing.algorithm) };
        jsonwebtoken::encode(&header, &claims, &self.signing.key).map_err(Error::Sign)
    }

    /// Whose token this is. `audiences`: those that the asker serves; empty means the API server's own.
    pub async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Authenticated, Error> {
        if token.len() > MAX_TOKEN {
            return Err(Error::Foreign);
        }
        if legacy_token::is_claimed(token) {
            return self.authenticate_legacy(token, audiences).await;
        }
        let claims: Claims = self.verify(token, &self.issuer, &["exp", "iss", "sub"])?;
        if !claims.sub.starts_with(PREFIX) {
            return Err(Error::Foreign);
        }
        let audiences = self.common(&claims.aud, audiences)?;
        if self.check_bound(&claims).is_err() {
            // What it is bound to may be newer than the cache.
            drop(self.caches.fresh().await);
            self.check_bound(&claims)?;
        }
        Ok(Authenticated { user: user(&claims), audiences })
    }

    /// A token kept in a Secret is for the API server, and for nobody else.
    async fn authenticate_legacy(&self, token: &str, audiences: &[String]) -> Result<Authenticated, Error> {
        let claims: legacy_token::Claims = self.verify(token, legacy_token::ISSUER, &["iss", "sub"])?;
        let audiences = self.common(&self.audiences, audiences)?;
        if self.check_legacy(&claims, token).is_err() {
            drop(self.caches.fresh().await);
            self.check_legacy(&claims, token)?;
        }
        let groups = groups(&claims.namespace);
        let user = User { name: claims.sub, uid: claims.account_uid, groups, extra: BTreeMap::new() };
        Ok(Authenticated { user, audiences })
    }

    fn check_legacy(&self, claims: &legacy_token::Claims, token: &str) -> Result<(), Error> {
        let read = |path: &str, name: &str| {
            let entry = self.caches.get(path)?.get(&format!("{}/{name}", claims.namespace))?;
            Some(entry.value())
        };
        let (secret, account) = (read("secrets", &claims.secret), read("serviceaccounts", &claims.account));
        legacy_token::check(claims, token, secret.as_ref(), account.as_ref())
    }

    /// The audiences of a token among those that the asker serves.
    fn common(&self, given: &[String], wanted: &[String]) -> Result<Vec<String>, Error> {
        let wanted = if wanted.is_empty() { &self.audiences } else { wanted };
        let common: Vec<String> = wanted.iter().filter(|a| given.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(Error::Audience { given: given.to_vec(), wanted: wanted.to_vec() });
        }
        Ok(common)
    }

    fn verify<C: DeserializeOwned>(&self, token: &str, issuer: &str, required: &[&str]) -> Result<C, Error> {
        let header = jsonwebtoken::decode_header(token).map_err(Error::Token)?;
        let mut last = Error::Foreign;
        for key in self.verifying.iter().filter(|k| k.algorithm == header.alg) {
            if header.kid.as_ref().is_some_and(|kid| *kid != key.kid) {
                continue;
            }
            // The algorithm is the key's, never the token's.
            let mut validation = Validation::new(key.algorithm);
            validation.set_issuer(&[issuer]);
            validation.set_required_spec_claims(required);
            validation.validate_nbf = true;
            validation.validate_aud = false;
            validation.leeway = LEEWAY_SECONDS;
            match jsonwebtoken::decode::<C>(token, &key.key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => last = Error::Token(error),
            }
        }
        Err(last)
    }

    /// Everything that the token names must still be there, and be the same.
    fn check_bound(&self, claims: &Claims) -> Result<(), Error> {
        let private = &claims.private;
        let within = |name: &str| format!("{}/{name}", private.namespace);
        self.check("serviceaccounts", &within(&private.serviceaccount.name), &private.serviceaccount)?;
        if let Some(pod) = &private.pod {
            self.check("pods", &within(&pod.name), pod)?;
        }
        if let Some(secret) = &private.secret {
            self.check("secrets", &within(&secret.name), secret)?;
        }
        match &private.node {
            // A pod's token names the node for information; only a token bound to the node alone dies with it.
            Some(node) if private.pod.is_none() => self.check("minions", &node.name, node),
            _ => Ok(()),
        }
    }

    fn check(&self, path: &str, key: &str, wanted: &Ref) -> Result<(), Error> {
        let cache: Option<&Arc<Cache>> = self.caches.get(path);
        match cache.and_then(|c| c.get(key)) {
            Some(found) if *found.uid == *wanted.uid => Ok(()),
            _ => Err(Error::Gone(format!("{path} {key} ({})", wanted.uid))),
        }
    }
}

fn user(claims: &Claims) -> User {
    let private = &claims.private;
    let namespace = &private.namespace;
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    for (kind, bound) in [("pod", &private.pod), ("node", &private.node)] {
        if let Some(bound) = bound {
            add(&format!("{kind}-name"), &bound.name);
            add(&format!("{kind}-uid"), &bound.uid);
        }
    }
    User { name: claims.sub.clone(), uid: private.serviceaccount.uid.clone(), groups: groups(namespace), extra }
}

fn groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}
