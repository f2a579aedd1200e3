//! The roles and bindings that every cluster starts with, read from `data/bootstrap-policy.txt`.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

const POLICY: &str = include_str!("../../data/bootstrap-policy.txt");

pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const LABEL: &str = "kubernetes.io/bootstrapping";
const API_GROUP: &str = "rbac.authorization.k8s.io";
const READ: &str = "get,list,watch";
const WRITE: &str = "create,delete,deletecollection,patch,update";
const READ_WRITE: &str = "create,delete,deletecollection,get,list,patch,update,watch";
/// Our controllers run under one identity, which therefore needs what each controller's own role gives.
const CONTROLLER_MANAGER: &str = "user:system:kube-controller-manager";

#[derive(Debug, Default)]
pub struct Policy {
    pub cluster_roles: Vec<ClusterRole>,
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    pub roles: Vec<Role>,
    pub role_bindings: Vec<RoleBinding>,
}

/// Where the rules that follow belong.
enum Target {
    None,
    Cluster,
    Namespaced,
}

/// The built-in policy.
pub fn policy() -> Policy {
    parse(POLICY)
}

fn parse(text: &str) -> Policy {
    let mut policy = Policy::default();
    let mut target = Target::None;
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            let rules = match target {
                Target::Cluster => policy.cluster_roles.last_mut().map(|r| &mut r.rules),
                Target::Namespaced => policy.roles.last_mut().map(|r| &mut r.rules),
                Target::None => None,
            };
            rules.expect("a rule stands below a role").get_or_insert_default().push(rule(&words));
            continue;
        }
        target = policy.item(&words);
    }
    policy
}

impl Policy {
    fn item(&mut self, words: &[&str]) -> Target {
        match words {
            ["role", name, aggregates @ ..] => {
                self.cluster_roles.push(cluster_role(name, aggregates));
                Target::Cluster
            }
            ["aggregate", name, selector, aggregates @ ..] => {
                let aggregation_rule = AggregationRule { cluster_role_selectors: Some(vec![selects(selector)]) };
                let role = cluster_role(name, aggregates);
                self.cluster_roles.push(ClusterRole { aggregation_rule: Some(aggregation_rule), ..role });
                Target::None
            }
            ["controller", name] => {
                let role = format!("system:controller:{name}");
                let account = format!("sa:kube-system/{name}");
                self.cluster_roles.push(cluster_role(&role, &[]));
                self.cluster_role_bindings.push(cluster_binding(&role, &role, &[&account, CONTROLLER_MANAGER]));
                Target::Cluster
            }
            ["bind", role, subjects @ ..] => {
                self.cluster_role_bindings.push(cluster_binding(role, role, subjects));
                Target::None
            }
            ["bindas", name, role, subjects @ ..] => {
                self.cluster_role_bindings.push(cluster_binding(name, role, subjects));
                Target::None
            }
            ["nsrole", namespace, name] => {
                self.roles.push(Role { metadata: metadata(name, Some(namespace)), rules: None });
                Target::Namespaced
            }
            ["nsbind", namespace, name, given @ ..] => {
                self.role_bindings.push(RoleBinding {
                    metadata: metadata(name, Some(namespace)),
                    role_ref: role_ref("Role", name),
                    subjects: Some(subjects(given)),
                });
                Target::None
            }
            other => unreachable!("the built-in policy is parsed by a test: {other:?}"),
        }
    }
}

fn cluster_role(name: &str, aggregates: &[&str]) -> ClusterRole {
    let mut metadata = metadata(name, None);
    let labels = metadata.labels.get_or_insert_default();
    for aggregate in aggregates {
        labels.insert(format!("{API_GROUP}/{aggregate}"), "true".to_owned());
    }
    ClusterRole { metadata, rules: None, aggregation_rule: None }
}

fn cluster_binding(name: &str, role: &str, given: &[&str]) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: metadata(name, None),
        role_ref: role_ref("ClusterRole", role),
        subjects: Some(subjects(given)),
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(API_GROUP.to_owned()), kind: kind.to_owned(), name: name.to_owned() }
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(BTreeMap::from([(LABEL.to_owned(), "rbac-defaults".to_owned())])),
        annotations: Some(BTreeMap::from([(AUTOUPDATE.to_owned(), "true".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn selects(aggregate: &str) -> LabelSelector {
    let labels = BTreeMap::from([(format!("{API_GROUP}/{aggregate}"), "true".to_owned())]);
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn subjects(given: &[&str]) -> Vec<Subject> {
    given.iter().map(|subject| self::subject(subject)).collect()
}

fn subject(given: &str) -> Subject {
    let (kind, name) = given.split_once(':').expect("a subject has a kind");
    let named = |kind: &str| Subject {
        api_group: Some(API_GROUP.to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: None,
    };
    match kind {
        "user" => named("User"),
        "group" => named("Group"),
        _ => {
            let (namespace, name) = name.split_once('/').expect("a service account has a namespace");
            Subject {
                api_group: None,
                kind: "ServiceAccount".to_owned(),
                name: name.to_owned(),
                namespace: Some(namespace.to_owned()),
            }
        }
    }
}

fn rule(words: &[&str]) -> PolicyRule {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let verbs = list(match words[0] {
        "R" => READ,
        "W" => WRITE,
        "RW" => READ_WRITE,
        verbs => verbs,
    });
    if words[1] == "url" {
        return PolicyRule { verbs, non_resource_urls: Some(list(words[2])), ..PolicyRule::default() };
    }
    let groups = words[1].split(',').map(|g| if g == "core" { String::new() } else { g.to_owned() });
    PolicyRule {
        verbs,
        api_groups: Some(groups.collect()),
        resources: Some(list(words[2])),
        resource_names: words.get(3).map(|names| list(names)),
        non_resource_urls: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_policy_is_whole() {
        let policy = policy();
        let find = |name: &str| policy.cluster_roles.iter().find(|r| r.metadata.name.as_deref() == Some(name));
        for name in ["cluster-admin", "admin", "edit", "view", "system:node", "system:controller:job-controller"] {
            assert!(find(name).is_some(), "{name}");
        }
        for role in &policy.cluster_roles {
            let name = role.metadata.name.as_deref().unwrap_or_default();
            assert!(role.rules.is_some() != role.aggregation_rule.is_some(), "{name} has rules or gathers them");
        }
        for binding in &policy.cluster_role_bindings {
            assert!(find(&binding.role_ref.name).is_some(), "{} binds a role", binding.role_ref.name);
        }
    }

    #[test]
    fn a_rule_in_words() {
        let rule = rule(&["R", "core,apps", "pods,pods/log", "a"]);
        assert_eq!(rule.verbs, ["get", "list", "watch"]);
        assert_eq!(rule.api_groups, Some(vec![String::new(), "apps".to_owned()]));
        assert_eq!(rule.resource_names, Some(vec!["a".to_owned()]));
    }
}
