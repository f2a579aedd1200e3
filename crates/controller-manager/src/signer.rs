//! Signs the tokens of Secrets with the key that the API server checks service account tokens with.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::json;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("neither an RSA nor an ECDSA P-256 private key in PEM")]
    Key,
    #[error("signing a token")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

pub struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Signer {
    /// Fails on a key that cannot sign, so that no Secret waits in vain.
    pub fn load(pem: &[u8]) -> Result<Self, Error> {
        let rsa = EncodingKey::from_rsa_pem(pem).map(|key| Self { algorithm: Algorithm::RS256, key });
        let signer =
            rsa.or_else(|_| EncodingKey::from_ec_pem(pem).map(|key| Self { algorithm: Algorithm::ES256, key }));
        let signer = signer.map_err(|_| Error::Key)?;
        signer.sign(&json!({})).map(|_| signer)
    }

    pub fn sign<C: Serialize>(&self, claims: &C) -> Result<String, Error> {
        let header = Header { typ: None, ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).map_err(Error::Sign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_with_what_kubeadm_makes() -> Result<(), Box<dyn std::error::Error>> {
        let (private, public) = pki::authority::service_account_keys()?;
        let token = Signer::load(private.as_bytes())?.sign(&json!({"sub": "x"}))?;
        let mut validation = jsonwebtoken::Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        let key = jsonwebtoken::DecodingKey::from_ec_pem(public.as_bytes())?;
        let read = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation)?;
        assert_eq!(read.claims, json!({"sub": "x"}));
        assert!(matches!(Signer::load(public.as_bytes()), Err(Error::Key)));
        Ok(())
    }
}
