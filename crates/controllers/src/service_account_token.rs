//! Secrets of type `kubernetes.io/service-account-token`: filled for the ServiceAccount that their annotation names,
//! and removed with it.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde::Serialize;

use crate::meta::Meta;
use crate::plan::{Guard, Kind, Op, Plan, Target};

pub const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
const TOKEN: &str = "token";

/// What such a token says. It has no end: it holds for as long as the Secret that carries it is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claims {
    iss: &'static str,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    account_uid: String,
    sub: String,
}

impl Claims {
    fn of(secret: &Secret, account: &ServiceAccount) -> Self {
        Self {
            iss: "kubernetes/serviceaccount",
            namespace: account.namespace().to_owned(),
            secret: secret.name().to_owned(),
            account: account.name().to_owned(),
            account_uid: account.uid().to_owned(),
            sub: format!("system:serviceaccount:{}:{}", account.namespace(), account.name()),
        }
    }
}

/// What goes into the Secrets.
pub trait Issuer {
    /// `None` when it cannot be signed.
    fn sign(&self, claims: &Claims) -> Option<String>;
    /// What the API server is verified with.
    fn root_ca(&self) -> Option<&str>;
}

/// The account that a Secret is for.
pub fn account_name(secret: &Secret) -> &str {
    secret.annotation(ACCOUNT_NAME).unwrap_or_default()
}

/// `account`: the one by the name that the Secret is annotated with.
pub fn plan(secret: &Secret, account: Option<&ServiceAccount>, issuer: &dyn Issuer) -> Plan {
    let mut plan = Plan::default();
    let uid = secret.annotation(ACCOUNT_UID).unwrap_or_default();
    match account.filter(|account| uid.is_empty() || account.uid() == uid) {
        None => plan.push(Op::delete(secret).guarded(without_account(secret, uid))),
        Some(account) => plan.ops.extend(fill(secret, account, issuer).map(|filled| Op::update(&filled))),
    }
    plan
}

/// The Secret may be in the cache before its account is.
fn without_account(secret: &Secret, uid: &str) -> Guard {
    let target = Target {
        kind: Kind::of::<ServiceAccount>(),
        namespace: secret.metadata.namespace.clone(),
        name: account_name(secret).to_owned(),
    };
    Guard::Absent { target, uid: uid.to_owned() }
}

/// The Secret with what it lacks, unless it lacks nothing.
fn fill(secret: &Secret, account: &ServiceAccount, issuer: &dyn Issuer) -> Option<Secret> {
    let mut filled = secret.clone();
    let data = filled.data.get_or_insert_default();
    let is_empty = |data: &std::collections::BTreeMap<String, ByteString>, key: &str| {
        data.get(key).is_none_or(|value| value.0.is_empty())
    };
    if let Some(pem) = issuer.root_ca().filter(|pem| !pem.is_empty()) {
        data.insert(CA.to_owned(), ByteString(pem.as_bytes().to_vec()));
    }
    if is_empty(data, NAMESPACE) {
        data.insert(NAMESPACE.to_owned(), ByteString(secret.namespace().as_bytes().to_vec()));
    }
    if is_empty(data, TOKEN) {
        data.insert(TOKEN.to_owned(), ByteString(issuer.sign(&Claims::of(secret, account))?.into_bytes()));
    }
    if filled.data == secret.data {
        return None;
    }
    let annotations = filled.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_NAME.to_owned(), account.name().to_owned());
    annotations.insert(ACCOUNT_UID.to_owned(), account.uid().to_owned());
    Some(filled)
}

/// A Secret that is gone is no longer listed by the accounts of its namespace.
pub fn plan_gone(namespace: &str, name: &str, accounts: &[Arc<ServiceAccount>]) -> Plan {
    let mut plan = Plan::default();
    let target = Target { kind: Kind::of::<Secret>(), namespace: Some(namespace.to_owned()), name: name.to_owned() };
    for account in accounts {
        let mut pruned = account.as_ref().clone();
        pruned.secrets.iter_mut().for_each(|secrets| secrets.retain(|secret| secret.name.as_deref() != Some(name)));
        if pruned.secrets != account.secrets {
            let gone = Guard::Absent { target: target.clone(), uid: String::new() };
            plan.push(Op::update(&pruned).guarded(gone));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::Verb;
    use crate::testing::{object, writes};

    struct Plain;

    impl Issuer for Plain {
        fn sign(&self, claims: &Claims) -> Option<String> {
            serde_json::to_string(claims).ok()
        }

        fn root_ca(&self) -> Option<&str> {
            Some("pem")
        }
    }

    fn secret(annotations: Value, data: Value) -> Secret {
        let meta = json!({"name": "s", "namespace": "ns", "uid": "u-s", "annotations": annotations});
        object(json!({"metadata": meta, "type": SECRET_TYPE, "data": data}))
    }

    fn account(secrets: Value) -> ServiceAccount {
        object(json!({"metadata": {"name": "robot", "namespace": "ns", "uid": "u-r"}, "secrets": secrets}))
    }

    fn check(secret: &Secret, account: Option<&ServiceAccount>, expected: &[&str]) {
        assert_eq!(writes(&plan(secret, account, &Plain)), expected);
    }

    #[test]
    fn an_empty_secret_is_filled_once() {
        let (empty, robot) = (secret(json!({ACCOUNT_NAME: "robot"}), json!(null)), account(json!(null)));
        let ops = plan(&empty, Some(&robot), &Plain).ops;
        let Verb::Update { object, .. } = &ops[0].verb else { panic!("{ops:?}") };
        let filled: Secret = serde_json::from_value(object.clone()).expect("a Secret");
        assert_eq!(filled.annotation(ACCOUNT_UID), Some("u-r"));
        let data = |key: &str| {
            let value = filled.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.clone());
            String::from_utf8(value.unwrap_or_default()).expect("text")
        };
        assert_eq!((data(CA), data(NAMESPACE)), ("pem".to_owned(), "ns".to_owned()));
        let claims = concat!(
            r#"{"iss":"kubernetes/serviceaccount","kubernetes.io/serviceaccount/namespace":"ns","#,
            r#""kubernetes.io/serviceaccount/secret.name":"s","#,
            r#""kubernetes.io/serviceaccount/service-account.name":"robot","#,
            r#""kubernetes.io/serviceaccount/service-account.uid":"u-r","sub":"system:serviceaccount:ns:robot"}"#
        );
        assert_eq!(data(TOKEN), claims);
        check(&filled, Some(&robot), &[]);
    }

    #[test]
    fn a_wrong_authority_is_put_right() {
        let data = json!({"ca.crt": "b2xk", "namespace": "bnM=", "token": "dA=="});
        check(&secret(json!({ACCOUNT_NAME: "robot"}), data), Some(&account(json!(null))), &["update secrets/s"]);
    }

    #[test]
    fn a_secret_goes_with_its_account() {
        let bound = secret(json!({ACCOUNT_NAME: "robot", ACCOUNT_UID: "an older robot's"}), json!({}));
        check(&bound, Some(&account(json!(null))), &["delete secrets/s"]);
        check(&bound, None, &["delete secrets/s"]);
        let ops = plan(&bound, None, &Plain).ops;
        let Some(Guard::Absent { target, uid }) = &ops[0].guard else { panic!("{ops:?}") };
        assert_eq!((target.name.as_str(), uid.as_str()), ("robot", "an older robot's"));
    }

    #[test]
    fn a_secret_that_is_gone_is_not_listed() {
        let robot = Arc::new(account(json!([{"name": "s"}, {"name": "other"}])));
        let Verb::Update { object, .. } = &plan_gone("ns", "s", std::slice::from_ref(&robot)).ops[0].verb else {
            panic!("an update");
        };
        assert_eq!(object["secrets"], json!([{"name": "other"}]));
        assert!(plan_gone("ns", "elsewhere", &[robot]).is_empty());
    }
}
