//! Brings the built-in roles and bindings up to date at start (adding what is missing, never taking away what an
//! administrator added; a role with autoupdate "false" is left alone), and keeps aggregated roles filled.

use std::sync::Arc;

use api::{ApiError, meta};
use daemon::CancellationToken;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde::Serialize;
use serde_json::{Value, json};

use super::bootstrap::{self, AUTOUPDATE};
use super::rules;
use crate::authn::User;
use crate::rest::create;
use crate::rest::update::{self, Owns, Rules, Target};
use crate::rest::write::{self, Writer};
use crate::state::Api;

const GROUP: &str = "rbac.authorization.k8s.io";
/// At start; what is nested deeper is filled as the changes come in.
const MAX_AGGREGATION_DEPTH: usize = 5;

pub async fn bootstrap(api: &Api) -> Result<(), ApiError> {
    let policy = bootstrap::policy();
    for role in &policy.cluster_roles {
        ensure(api, "clusterroles", role).await?;
    }
    for binding in &policy.cluster_role_bindings {
        ensure(api, "clusterrolebindings", binding).await?;
    }
    for role in &policy.roles {
        ensure(api, "roles", role).await?;
    }
    for binding in &policy.role_bindings {
        ensure(api, "rolebindings", binding).await?;
    }
    // Aggregated roles gather from aggregated roles: view goes into edit, edit into admin.
    for _ in 0..MAX_AGGREGATION_DEPTH {
        api.caches.fresh().await?;
        if !aggregate_all(api).await? {
            break;
        }
    }
    Ok(())
}

async fn ensure(api: &Api, plural: &str, wanted: &impl Serialize) -> Result<(), ApiError> {
    let kind = api.kind(GROUP, "v1", plural);
    let wanted = serde_json::to_value(wanted).map_err(ApiError::internal)?;
    let (namespace, name) = (meta::namespace(&wanted).to_owned(), meta::name(&wanted).to_owned());
    let user = User::loopback();
    let writer = Writer { user: &user, now: Timestamp::now(), dry_run: false, request: None };
    if write::current(api, kind, &namespace, &name).await?.is_none() {
        return match create::new_object(api, kind, &writer, wanted).await {
            Err(error) if error.reason() != "AlreadyExists" => Err(error),
            _ => Ok(()),
        };
    }
    let target = Target {
        kind,
        namespace: &namespace,
        name: &name,
        subresource: "",
        rules: Rules::Main,
        conditional: false,
        owns: Owns::Changes,
    };
    update::update(api, &writer, &target, &|old| Ok(reconciled(old, &wanted))).await.map(drop)
}

/// The existing object with everything that the built-in one has.
fn reconciled(old: &Value, wanted: &Value) -> Value {
    let mut new = old.clone();
    if meta::annotation(old, AUTOUPDATE) == Some("false") {
        return new;
    }
    for field in ["labels", "annotations"] {
        let members = wanted["metadata"][field].as_object().into_iter().flatten();
        for (key, value) in members {
            if new["metadata"][field].get(key).is_none() {
                new["metadata"][field][key] = value.clone();
            }
        }
    }
    // The rules of an aggregated role are the aggregator's.
    if wanted["aggregationRule"].is_null() && !wanted["rules"].is_null() {
        let missing = missing_rules(&new["rules"], &wanted["rules"]);
        append(&mut new["rules"], missing);
    }
    let subjects = wanted["subjects"].as_array().cloned().unwrap_or_default();
    let same = |a: &Value, b: &Value| ["kind", "name", "namespace"].iter().all(|f| a[f] == b[f]);
    let have = new["subjects"].as_array().cloned().unwrap_or_default();
    let missing = subjects.into_iter().filter(|s| !have.iter().any(|h| same(h, s))).collect();
    append(&mut new["subjects"], missing);
    new
}

fn append(list: &mut Value, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    match list.as_array_mut() {
        Some(list) => list.extend(more),
        None => *list = more.into(),
    }
}

fn missing_rules(have: &Value, wanted: &Value) -> Vec<Value> {
    let typed = |v: &Value| serde_json::from_value::<Vec<PolicyRule>>(v.clone()).unwrap_or_default();
    let have = typed(have);
    let uncovered = |rule: &PolicyRule| !rules::atoms(rule).iter().all(|atom| rules::covers(&have, atom));
    typed(wanted).iter().filter(|r| uncovered(r)).map(|r| json!(r)).collect()
}

/// Fills aggregated roles again whenever a cluster role changes.
pub async fn keep_aggregated(api: Arc<Api>, stop: CancellationToken) {
    let mut changed = api.builtin("clusterroles").subscribe();
    loop {
        changed.borrow_and_update();
        if let Err(error) = aggregate_all(&api).await {
            tracing::warn!(%error, "filling aggregated cluster roles");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            seen = changed.changed() => if seen.is_err() { return },
        }
    }
}

/// Whether anything had to be changed.
async fn aggregate_all(api: &Api) -> Result<bool, ApiError> {
    let kind = api.kind(GROUP, "v1", "clusterroles");
    let entries = api.builtin("clusterroles").all();
    let roles: Vec<ClusterRole> = entries.iter().filter_map(|e| e.typed().ok()).collect();
    let user = User::loopback();
    let mut any = false;
    for role in roles.iter().filter(|r| r.aggregation_rule.is_some()) {
        let rules = gathered(role, &roles);
        if role.rules.clone().unwrap_or_default() == rules {
            continue;
        }
        let name = role.metadata.name.clone().unwrap_or_default();
        let writer = Writer { user: &user, now: Timestamp::now(), dry_run: false, request: None };
        let target = Target {
            kind,
            namespace: "",
            name: &name,
            subresource: "",
            rules: Rules::Main,
            conditional: false,
            owns: Owns::Changes,
        };
        update::update(api, &writer, &target, &|old| {
            let mut new = old.clone();
            new["rules"] = json!(rules);
            Ok(new)
        })
        .await?;
        any = true;
    }
    Ok(any)
}

/// The rules of every role that the aggregation selects, by name, each once.
fn gathered(role: &ClusterRole, all: &[ClusterRole]) -> Vec<PolicyRule> {
    let selectors =
        role.aggregation_rule.as_ref().and_then(|a| a.cluster_role_selectors.as_deref()).unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let Ok(selector) = api::selector::Selector::from_label_selector(Some(selector)) else { continue };
        let selected = |other: &&ClusterRole| {
            other.metadata.name != role.metadata.name && selector.matches_opt(other.metadata.labels.as_ref())
        };
        for rule in all.iter().filter(selected).filter_map(|r| r.rules.as_ref()).flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_administrator_added_stays() {
        let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
        let wanted = json!({"metadata": {"annotations": {AUTOUPDATE: "true"}}, "rules": [rule("get")]});
        let old = json!({"metadata": {"labels": {"a": "b"}}, "rules": [rule("delete")]});
        let new = reconciled(&old, &wanted);
        assert_eq!(new["rules"], json!([rule("delete"), rule("get")]));
        assert_eq!(new["metadata"]["labels"]["a"], "b");
        assert_eq!(reconciled(&new, &wanted), new);
        let frozen = json!({"metadata": {"annotations": {AUTOUPDATE: "false"}}});
        assert_eq!(reconciled(&frozen, &wanted), frozen);
    }
}
