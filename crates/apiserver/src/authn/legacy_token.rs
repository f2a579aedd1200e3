//! Tokens kept in Secrets of type `kubernetes.io/service-account-token`. They name no audience and have no end: one
//! holds for as long as its Secret carries it and its account is there.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::service_account::{Error, PREFIX};

pub const ISSUER: &str = "kubernetes/serviceaccount";
/// Somebody has withdrawn the token without removing the Secret.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    pub sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
}

/// Whether the token says to be such a one; nothing of it is verified yet.
pub fn is_claimed(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let issuer = payload.and_then(|json| serde_json::from_slice::<Issuer>(&json).ok());
    issuer.is_some_and(|issuer| issuer.iss == ISSUER)
}

/// Checks a token whose signature holds against the objects that it names.
pub fn check(claims: &Claims, token: &str, secret: Option<&Value>, account: Option<&Value>) -> Result<(), Error> {
    let Claims { namespace, account: name, .. } = claims;
    let subject = format!("{PREFIX}{namespace}:{name}");
    if claims.sub != subject || [namespace, name, &claims.secret, &claims.account_uid].iter().any(|c| c.is_empty()) {
        return Err(Error::Foreign);
    }
    let stays = |object: &&Value| object["metadata"]["deletionTimestamp"].is_null();
    let gone = |what: &str, name: &str| Error::Gone(format!("{what} {namespace}/{name}"));
    let secret = secret.filter(stays).ok_or_else(|| gone("secrets", &claims.secret))?;
    if secret["data"]["token"] != BASE64_STANDARD.encode(token) {
        return Err(Error::Replaced);
    }
    if secret["metadata"]["labels"][INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
        return Err(Error::Withdrawn { secret: format!("{namespace}/{}", claims.secret) });
    }
    match account.filter(stays) {
        Some(account) if account["metadata"]["uid"] == claims.account_uid => Ok(()),
        _ => Err(gone("serviceaccounts", name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(change: fn(&mut Claims)) -> Claims {
        let [namespace, account] = ["ns", "robot"].map(str::to_owned);
        let sub = "system:serviceaccount:ns:robot".to_owned();
        let mut claims = Claims { sub, namespace, account, secret: "s".into(), account_uid: "u".into() };
        change(&mut claims);
        claims
    }

    #[test]
    fn all_that_a_token_names_must_be_there_and_fit() {
        let secret = json!({"metadata": {}, "data": {"token": BASE64_STANDARD.encode("t")}});
        let account = json!({"metadata": {"uid": "u"}});
        let holds = |claims: &Claims, token: &str, secret: Option<&Value>, account: Option<&Value>| {
            check(claims, token, secret, account).map_err(|error| error.to_string())
        };
        let good = claims(|_| ());
        assert_eq!(holds(&good, "t", Some(&secret), Some(&account)), Ok(()));
        let refused = |claims: &Claims, token: &str, secret: Option<&Value>, account: Option<&Value>, why: &str| {
            let error = holds(claims, token, secret, account).expect_err("refused");
            assert!(error.contains(why), "{error}");
        };
        let foreign = "not one of ours";
        refused(
            &claims(|c| c.sub = "system:serviceaccount:ns:admin".into()),
            "t",
            Some(&secret),
            Some(&account),
            foreign,
        );
        refused(&claims(|c| c.secret.clear()), "t", Some(&secret), Some(&account), foreign);
        refused(&good, "t", None, Some(&account), "secrets ns/s has been deleted");
        refused(&good, "another", Some(&secret), Some(&account), "does not match");
        refused(&good, "t", Some(&secret), None, "serviceaccounts ns/robot has been deleted");
        refused(&good, "t", Some(&secret), Some(&json!({"metadata": {"uid": "new"}})), "has been deleted");
        let mut marked = secret.clone();
        marked["metadata"]["labels"] = json!({INVALID_SINCE: "2026-01-01"});
        refused(&good, "t", Some(&marked), Some(&account), "has been marked invalid");
    }

    #[test]
    fn only_its_own_issuer_claims_it() {
        let token = |issuer: &str| format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(json!({"iss": issuer}).to_string()));
        assert!(is_claimed(&token(ISSUER)));
        assert!(
            !is_claimed(&token("https://kubernetes.default.svc")) && !is_claimed("nonsense") && !is_claimed("a.b.c")
        );
    }
}
