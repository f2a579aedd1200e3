//! Aggregated ClusterRoles: their rules are those of all roles their selectors match.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use crate::meta::Meta;
use crate::plan::{Op, Plan};
use crate::selector;

pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Plan {
    let mut plan = Plan::default();
    let Some(rule) = &role.aggregation_rule else { return plan };
    let mut parts: Vec<&Arc<ClusterRole>> = all
        .iter()
        .filter(|part| part.name() != role.name())
        .filter(|part| {
            let selectors = rule.cluster_role_selectors.iter().flatten();
            selectors.into_iter().any(|wanted| selector::matches(wanted, part.meta().labels.as_ref()))
        })
        .collect();
    parts.sort_by(|a, b| a.name().cmp(b.name()));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for part in parts.iter().flat_map(|part| part.rules.iter().flatten()) {
        if !rules.contains(part) {
            rules.push(part.clone());
        }
    }
    if role.rules.clone().unwrap_or_default() != rules {
        plan.push(Op::update(&ClusterRole { rules: Some(rules), ..role.clone() }));
    }
    plan
}
