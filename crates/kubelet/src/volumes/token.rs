//! Service account tokens, bound to their pod and renewed before they expire.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use podsync::pod as spec;

/// No token is kept longer than a day, however long it lives.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
const DEFAULT_LIFETIME_SECONDS: i64 = 3600;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this kubelet has no API server to ask")]
    Standalone,
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("the API server returned no token")]
    Empty,
}

struct Token {
    text: String,
    refresh_at: Timestamp,
}

/// By pod uid, then by volume and path.
type Cache = BTreeMap<String, BTreeMap<(String, String), Token>>;

pub struct Tokens {
    api: Option<kube::Client>,
    cache: Mutex<Cache>,
}

impl Tokens {
    pub fn new(api: Option<kube::Client>) -> Tokens {
        Tokens { api, cache: Mutex::default() }
    }

    /// The token and when it wants to be asked for again.
    pub async fn get(
        &self,
        pod: &Pod,
        volume: &str,
        source: &ServiceAccountTokenProjection,
    ) -> Result<(String, Timestamp), Error> {
        let (uid, key) = (spec::uid(pod).to_owned(), (volume.to_owned(), source.path.clone()));
        let now = Timestamp::now();
        if let Some(token) = self.cache.lock().get(&uid).and_then(|tokens| tokens.get(&key))
            && token.refresh_at > now
        {
            return Ok((token.text.clone(), token.refresh_at));
        }
        let status = self.request(pod, source).await?.status.ok_or(Error::Empty)?;
        let text = status.token.filter(|token| !token.is_empty()).ok_or(Error::Empty)?;
        let refresh_at = refresh_time(now, status.expiration_timestamp.ok_or(Error::Empty)?.0);
        let token = Token { text: text.clone(), refresh_at };
        self.cache.lock().entry(uid).or_default().insert(key, token);
        Ok((text, refresh_at))
    }

    async fn request(&self, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<TokenRequest, Error> {
        let client = self.api.clone().ok_or(Error::Standalone)?;
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(source.audience.iter().filter(|a| !a.is_empty()).cloned().collect()),
                expiration_seconds: Some(source.expiration_seconds.unwrap_or(DEFAULT_LIFETIME_SECONDS)),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(client, spec::namespace(pod));
        Ok(accounts.create_token_request(account, &PostParams::default(), &request).await?)
    }

    pub fn forget(&self, uid: &str) {
        self.cache.lock().remove(uid);
    }
}

/// At 80 % of its life.
fn refresh_time(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    now + (life * 8 / 10).min(MAX_AGE).max(SignedDuration::from_secs(1))
}
