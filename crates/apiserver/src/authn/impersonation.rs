//! Impersonation: who may may act as someone else, by header; every part of the other identity is authorized.

use std::collections::BTreeMap;

use api::ApiError;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Rbac};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The user that the request is to be carried out as.
pub fn apply(user: User, headers: &HeaderMap, rbac: &Rbac) -> Result<User, ApiError> {
    let Some(wanted) = wanted(headers)? else { return Ok(user) };
    for asked in asked(&wanted) {
        rbac.authorize(&user, &asked)?;
    }
    Ok(complete(wanted))
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let groups = headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
            let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    let user = User { name: text(USER), uid: text(UID), groups, extra };
    if user == User::default() {
        return Ok(None);
    }
    if user.name.is_empty() {
        return Err(ApiError::internal(format!(
            "requested {user:?} without impersonating a user name; impersonating a user is required"
        )));
    }
    Ok(Some(user))
}

/// One question for each part of the identity.
fn asked(wanted: &User) -> Vec<Attributes> {
    let ask = |group: &str, resource: &str, namespace: &str, name: &str| {
        Attributes::resource("impersonate", group, resource, namespace, name)
    };
    let account = wanted.name.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
    let mut asked = vec![match account {
        Some((namespace, name)) => ask("", "serviceaccounts", namespace, name),
        None => ask("", "users", "", &wanted.name),
    }];
    asked.extend(wanted.groups.iter().map(|group| ask("", "groups", "", group)));
    if !wanted.uid.is_empty() {
        asked.push(ask("authentication.k8s.io", "uids", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        asked.extend(values.iter().map(|value| Attributes {
            subresource: key.clone(),
            ..ask("authentication.k8s.io", "userextras", "", value)
        }));
    }
    asked
}

/// Groups that the identity has by itself.
fn complete(mut user: User) -> User {
    let account = user.name.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
    if let Some((namespace, _)) = account.filter(|_| user.groups.is_empty()) {
        user.groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let group = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.in_group(group) {
        user.groups.push(group.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_part_is_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert(USER, HeaderValue::from_static("system:serviceaccount:ns:sa"));
        headers.append(GROUP, HeaderValue::from_static("g1"));
        headers.append(GROUP, HeaderValue::from_static("g2"));
        headers.append("impersonate-extra-scopes%2fa", HeaderValue::from_static("x"));
        let wanted = wanted(&headers).expect("a user").expect("impersonates");
        let asked: Vec<String> = asked(&wanted)
            .iter()
            .map(|a| format!("{}/{} {} {}", a.resource, a.subresource, a.namespace, a.name))
            .collect();
        assert_eq!(asked, ["serviceaccounts/ ns sa", "groups/  g1", "groups/  g2", "userextras/scopes/a  x"]);
        assert_eq!(complete(wanted).groups, ["g1", "g2", AUTHENTICATED]);
    }

    #[test]
    fn a_group_without_a_user_is_refused() {
        let mut headers = HeaderMap::new();
        assert!(wanted(&headers).expect("none").is_none());
        headers.insert(GROUP, HeaderValue::from_static("g"));
        assert!(wanted(&headers).is_err());
    }
}
