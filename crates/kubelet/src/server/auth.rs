//! Who asks, and may they: client certificates or tokens, then a SubjectAccessReview.
//!
//! Without an API server to ask nobody is authorized: this API is never open.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use daemon::trust::Shown;
use http::{HeaderMap, Method, Response, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::config::Settings;
use crate::server::body::{Body, text};

/// Answers remembered; emptied when full.
const REMEMBERED: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// From a client certificate: CN is the user, O its groups. Whether it is believed is another question.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Identity> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(ToOwned::to_owned);
        let user = subject.iter_common_name().next().and_then(text).filter(|user| !user.is_empty())?;
        let mut groups: Vec<String> = subject.iter_organization().filter_map(text).collect();
        groups.push("system:authenticated".into());
        Some(Identity { user, uid: String::new(), groups, extra: BTreeMap::new() })
    }

    fn anonymous() -> Identity {
        Identity {
            user: "system:anonymous".into(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".into()],
            extra: BTreeMap::new(),
        }
    }
}

/// What a connection's client certificate says.
#[derive(Debug, Clone)]
pub enum Certified {
    /// There is none, or it names nobody.
    Nobody,
    User(Identity),
    /// It is not believed, or not any more.
    Refused,
}

impl Certified {
    /// As of now: a connection may outlive its certificate.
    pub fn of(shown: Option<&Shown>) -> Certified {
        let named = shown.and_then(|shown| Some((shown, Identity::of(shown.certificate()?)?)));
        match named {
            Some((shown, identity)) if shown.is_believed() => Certified::User(identity),
            Some(_) => Certified::Refused,
            None => Certified::Nobody,
        }
    }
}

/// What is asked, in the API server's terms: a verb on subresources of this node, any one of
/// which suffices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    pub verb: &'static str,
    pub subresources: Vec<&'static str>,
}

impl Attributes {
    pub fn of(method: &Method, path: &str) -> Attributes {
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let subresources = match top {
            "stats" => vec!["stats"],
            "metrics" => vec!["metrics"],
            "logs" => vec!["log"],
            "checkpoint" => vec!["checkpoint"],
            "pods" | "runningpods" => vec!["pods", "proxy"],
            "healthz" | "livez" | "readyz" => vec!["healthz", "proxy"],
            "configz" => vec!["configz", "proxy"],
            _ => vec!["proxy"],
        };
        Attributes { verb, subresources }
    }
}

/// Who a token's digest stands for, if anyone, and until when that is believed.
type Reviewed = HashMap<[u8; 32], (Option<Identity>, Instant)>;
type Question = (Identity, &'static str, &'static str);

pub struct Authenticator {
    api: Option<kube::Client>,
    node: String,
    anonymous: bool,
    tokens_allowed: bool,
    token_ttl: Duration,
    allowed_ttl: Duration,
    denied_ttl: Duration,
    decisions: Mutex<HashMap<Question, (bool, Instant)>>,
    tokens: Mutex<Reviewed>,
}

impl Authenticator {
    pub fn new(api: Option<kube::Client>, settings: &Settings) -> Authenticator {
        let (authn, authz) = (&settings.config.authentication, &settings.config.authorization.webhook);
        Authenticator {
            api,
            node: settings.node_name.clone(),
            anonymous: authn.anonymous.enabled,
            tokens_allowed: authn.webhook.enabled,
            token_ttl: authn.webhook.cache_ttl,
            allowed_ttl: authz.cache_authorized_ttl,
            denied_ttl: authz.cache_unauthorized_ttl,
            decisions: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    pub async fn authenticate(&self, certified: Certified, headers: &HeaderMap) -> Result<Identity, Response<Body>> {
        let unauthorized = || text(StatusCode::UNAUTHORIZED, "Unauthorized");
        let refused = match certified {
            Certified::User(identity) => return Ok(identity),
            Certified::Refused => true,
            Certified::Nobody => false,
        };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        if let Some(token) = bearer.and_then(|b| b.strip_prefix("Bearer ")) {
            return self.review_token(token.trim()).await.ok_or_else(unauthorized);
        }
        if self.anonymous && !refused { Ok(Identity::anonymous()) } else { Err(unauthorized()) }
    }

    async fn review_token(&self, token: &str) -> Option<Identity> {
        let client = self.api.clone().filter(|_| self.tokens_allowed)?;
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some((known, until)) = self.tokens.lock().get(&key)
            && *until > Instant::now()
        {
            return known.clone();
        }
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = Api::<TokenReview>::all(client).create(&PostParams::default(), &review).await.ok()?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        let identity = user.map(|user| Identity {
            user: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        let mut tokens = self.tokens.lock();
        if tokens.len() >= REMEMBERED {
            tokens.clear();
        }
        tokens.insert(key, (identity.clone(), Instant::now() + self.token_ttl));
        identity
    }

    pub async fn authorize(&self, identity: &Identity, attributes: &Attributes) -> Result<(), Response<Body>> {
        for subresource in &attributes.subresources {
            match self.allowed((identity.clone(), attributes.verb, subresource)).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let message = format!(
                        "Authorization error (user={}, verb={}, resource=nodes, subresource(s)={:?})",
                        identity.user, attributes.verb, attributes.subresources
                    );
                    tracing::warn!(%error, message);
                    return Err(text(StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        Err(text(
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])",
                identity.user,
                attributes.verb,
                attributes.subresources.join(" ")
            ),
        ))
    }

    async fn allowed(&self, question: Question) -> kube::Result<bool> {
        let Some(client) = self.api.clone() else { return Ok(false) };
        if let Some((allowed, until)) = self.decisions.lock().get(&question)
            && *until > Instant::now()
        {
            return Ok(*allowed);
        }
        let (identity, verb, subresource) = question.clone();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(identity.user),
                groups: Some(identity.groups),
                uid: Some(identity.uid).filter(|uid| !uid.is_empty()),
                extra: Some(identity.extra).filter(|extra| !extra.is_empty()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.into()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(subresource.into()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::<SubjectAccessReview>::all(client).create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|s| s.allowed && s.denied != Some(true));
        let ttl = if allowed { self.allowed_ttl } else { self.denied_ttl };
        let mut decisions = self.decisions.lock();
        if decisions.len() >= REMEMBERED {
            decisions.clear();
        }
        decisions.insert(question, (allowed, Instant::now() + ttl));
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_the_node() {
        let check = |method: Method, path: &str, verb: &str, subresources: &[&str]| {
            let attributes = Attributes::of(&method, path);
            assert_eq!((attributes.verb, attributes.subresources.as_slice()), (verb, subresources), "{path}");
        };
        check(Method::GET, "/stats/summary", "get", &["stats"]);
        check(Method::GET, "/metrics/resource", "get", &["metrics"]);
        check(Method::GET, "/pods", "get", &["pods", "proxy"]);
        check(Method::POST, "/exec/ns/p/c", "create", &["proxy"]);
        check(Method::GET, "/containerLogs/ns/p/c", "get", &["proxy"]);
        check(Method::GET, "/healthz", "get", &["healthz", "proxy"]);
        check(Method::GET, "/configz", "get", &["configz", "proxy"]);
        check(Method::GET, "/logs/syslog", "get", &["log"]);
        check(Method::GET, "/unheard-of", "get", &["proxy"]);
    }
}
