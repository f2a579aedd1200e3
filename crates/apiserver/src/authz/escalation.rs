//! Nobody grants what they do not have: who writes a role must hold its rules (or the verb `escalate`), who writes a
//! binding must hold the role's rules (or the verb `bind` on it).

use api::{ApiError, meta};
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize as _;
use serde_json::Value;

use super::{Attributes, Rbac, rules};
use crate::authn::{MASTERS, User};
use crate::catalog::Kind;

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn check(rbac: &Rbac, kind: &Kind, user: &User, old: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    if kind.row.group != GROUP || user.in_group(MASTERS) || old.is_some_and(|old| unchanged(old, object)) {
        return Ok(());
    }
    let namespace = meta::namespace(object);
    let resource = &*kind.row.plural;
    let wanted = match resource {
        "roles" | "clusterroles" => {
            let asked = Attributes::resource("escalate", GROUP, resource, namespace, meta::name(object));
            if rbac.decide(user, &asked).allowed {
                return Ok(());
            }
            rules_of(object)
        }
        _ => {
            let kind = object["roleRef"]["kind"].as_str().unwrap_or_default();
            let name = object["roleRef"]["name"].as_str().unwrap_or_default();
            let roles = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if rbac.decide(user, &Attributes::resource("bind", GROUP, roles, namespace, name)).allowed {
                return Ok(());
            }
            let gr = api::status::GroupResource { group: GROUP, resource: roles };
            rbac.role(kind, namespace, name).ok_or_else(|| ApiError::not_found(gr, name))?.to_vec()
        }
    };
    let owned = rbac.rules_for(user, namespace);
    let missing = missing(&owned, &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let groups = user.groups.iter().map(|g| format!("{g:?}")).collect::<Vec<_>>().join(" ");
    let why = format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        missing.join("\n")
    );
    Err(ApiError::forbidden(kind.row.group_resource(), meta::name(object), &why))
}

/// Changes of metadata alone grant nothing.
fn unchanged(old: &Value, new: &Value) -> bool {
    ["rules", "aggregationRule", "roleRef", "subjects"].iter().all(|field| old[field] == new[field])
}

fn rules_of(role: &Value) -> Vec<PolicyRule> {
    let rules = role["rules"].as_array().into_iter().flatten();
    rules.filter_map(|rule| PolicyRule::deserialize(rule).ok()).collect()
}

/// The wanted rules that are not covered, in words, those of one place joined.
fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<String> {
    let uncovered: Vec<PolicyRule> =
        wanted.iter().flat_map(rules::atoms).filter(|atom| !rules::covers(owned, atom)).collect();
    let mut joined: Vec<PolicyRule> = Vec::new();
    for atom in uncovered {
        let same = |r: &&mut PolicyRule| {
            PolicyRule { verbs: Vec::new(), ..(**r).clone() } == PolicyRule { verbs: Vec::new(), ..atom.clone() }
        };
        match joined.iter_mut().find(same) {
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => joined.push(atom),
        }
    }
    let mut words: Vec<String> = joined.iter().map(words).collect();
    words.sort();
    words
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`
fn words(rule: &PolicyRule) -> String {
    let list = |items: &[String]| items.iter().map(|i| format!("{i:?}")).collect::<Vec<_>>().join(" ");
    let lists = [
        ("NonResourceURLs", rule.non_resource_urls.as_deref().unwrap_or_default()),
        ("APIGroups", rule.api_groups.as_deref().unwrap_or_default()),
        ("Resources", rule.resources.as_deref().unwrap_or_default()),
        ("ResourceNames", rule.resource_names.as_deref().unwrap_or_default()),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let parts =
        lists.iter().filter(|(_, items)| !items.is_empty()).map(|(name, items)| format!("{name}:[{}]", list(items)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let rules = |v: Value| rules_of(&json!({"rules": v}));
        let owned = rules(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        let wanted = rules(json!([{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}]));
        assert_eq!(missing(&owned, &wanted), [r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#]);
        assert!(missing(&wanted, &owned).is_empty());
    }
}
