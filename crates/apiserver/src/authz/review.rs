//! The access reviews: the authorizer's answers, as objects.

use api::field::{Error, Path};
use api::{ApiError, ErrorList};
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

use super::Attributes;
use crate::authn::User;
use crate::authn::review::{created, review, strings};
use crate::http::reply::Reply;
use crate::rest::Call;
use crate::rest::write;

/// Whose access is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user in the spec, anywhere.
    Given,
    /// The user in the spec, in the request's namespace.
    Local,
    /// Whoever asks.
    Own,
}

pub async fn subject(call: &Call<'_>, whose: Whose) -> Result<Reply, ApiError> {
    let mut review = review(call).await?;
    let errors = validate(&review, whose, &call.request.info.namespace);
    write::refuse(call.kind, &review, &errors)?;
    let spec = &review["spec"];
    let user = match whose {
        Whose::Own => call.request.user.clone(),
        Whose::Given | Whose::Local => given_user(spec),
    };
    let decision = call.api.rbac.decide(&user, &attributes(spec));
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    review["status"] = status;
    created(call, review)
}

fn validate(review: &Value, whose: Whose, namespace: &str) -> ErrorList {
    let (spec, path) = (&review["spec"], Path::new("spec"));
    let mut errors = ErrorList::new();
    let resource = path.child("resourceAttributes");
    match (spec["resourceAttributes"].is_null(), spec["nonResourceAttributes"].is_null()) {
        (false, false) => errors.push(Error::invalid(
            &path.child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (true, true) => errors.push(Error::invalid(
            &resource,
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    if whose != Whose::Own
        && spec["user"].as_str().unwrap_or_default().is_empty()
        && strings(&spec["groups"]).is_empty()
    {
        let why = "at least one of user or group must be specified";
        errors.push(Error::invalid(&path.child("user"), spec["user"].as_str().unwrap_or_default(), why));
    }
    let within = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
    if whose == Whose::Local && within != namespace {
        let why = "must match metadata.namespace";
        errors.push(Error::invalid(&resource.child("namespace"), within, why));
    }
    errors
}

fn given_user(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    User { name: text("user"), uid: text("uid"), groups: strings(&spec["groups"]), extra: Default::default() }
}

fn attributes(spec: &Value) -> Attributes {
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let resource = &spec["resourceAttributes"];
    if resource.is_null() {
        let other = &spec["nonResourceAttributes"];
        return Attributes { verb: text(other, "verb"), path: text(other, "path"), ..Attributes::default() };
    }
    Attributes {
        is_resource: true,
        verb: text(resource, "verb"),
        group: text(resource, "group"),
        version: text(resource, "version"),
        resource: text(resource, "resource"),
        subresource: text(resource, "subresource"),
        namespace: text(resource, "namespace"),
        name: text(resource, "name"),
        path: String::new(),
    }
}

/// SelfSubjectRulesReview.
pub async fn rules(call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut review = review(call).await?;
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let user = &call.request.user;
    let mut rules = call.api.rbac.rules_for(user, &namespace);
    if user.in_group(crate::authn::MASTERS) {
        rules.extend(everything());
    }
    let resource: Vec<Value> = rules.iter().filter(|r| r.resources.is_some()).map(resource_rule).collect();
    let other: Vec<Value> = rules
        .iter()
        .filter_map(|r| r.non_resource_urls.as_ref().map(|urls| json!({"verbs": r.verbs, "nonResourceURLs": urls})))
        .collect();
    review["status"] = json!({"resourceRules": resource, "nonResourceRules": other, "incomplete": false});
    created(call, review)
}

fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    let resources =
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() };
    [resources, PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() }]
}

fn resource_rule(rule: &PolicyRule) -> Value {
    let mut out = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
    if let Some(names) = rule.resource_names.as_ref().filter(|n| !n.is_empty()) {
        out["resourceNames"] = json!(names);
    }
    out
}
