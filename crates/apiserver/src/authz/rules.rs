//! Whether one rule allows one request, and whether a set of rules covers another rule.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Attributes;

const ALL: &str = "*";

pub fn allows(rule: &PolicyRule, asked: &Attributes) -> bool {
    let verb = rule.verbs.iter().any(|v| v == ALL || *v == asked.verb);
    if !verb {
        return false;
    }
    if !asked.is_resource {
        return some(rule.non_resource_urls.as_ref()).iter().any(|u| url_matches(u, &asked.path));
    }
    let groups = some(rule.api_groups.as_ref());
    groups.iter().any(|g| g == ALL || *g == asked.group)
        && some(rule.resources.as_ref()).iter().any(|r| resource_matches(r, &asked.resource, &asked.subresource))
        && name_matches(some(rule.resource_names.as_ref()), &asked.name)
}

fn some(list: Option<&Vec<String>>) -> &[String] {
    list.map_or(&[], Vec::as_slice)
}

fn name_matches(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|n| n == name)
}

/// `pods`, `pods/log`, `*`, and `*/scale` for a subresource of anything.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((r, s)) => !subresource.is_empty() && s == subresource && (r == ALL || r == resource),
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == ALL || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// Splits a rule into rules of one verb, group, resource and name each.
pub fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |s: &str| Some(vec![s.to_owned()]);
    let mut out = Vec::new();
    let names: Vec<Option<Vec<String>>> = match some(rule.resource_names.as_ref()) {
        [] => vec![None],
        names => names.iter().map(|n| one(n)).collect(),
    };
    for verb in &rule.verbs {
        for group in some(rule.api_groups.as_ref()) {
            for resource in some(rule.resources.as_ref()) {
                for name in &names {
                    out.push(PolicyRule {
                        verbs: vec![verb.clone()],
                        api_groups: one(group),
                        resources: one(resource),
                        resource_names: name.clone(),
                        non_resource_urls: None,
                    });
                }
            }
        }
        for url in some(rule.non_resource_urls.as_ref()) {
            out.push(PolicyRule { verbs: vec![verb.clone()], non_resource_urls: one(url), ..PolicyRule::default() });
        }
    }
    out
}

/// Whether one rule of `owned` covers the whole atom.
pub fn covers(owned: &[PolicyRule], atom: &PolicyRule) -> bool {
    owned.iter().any(|rule| {
        let within = |owned: &[String], wanted: &[String]| {
            owned.iter().any(|o| o == ALL) || wanted.iter().all(|w| owned.contains(w))
        };
        let urls = some(atom.non_resource_urls.as_ref());
        if !urls.is_empty() {
            let owned = some(rule.non_resource_urls.as_ref());
            return within(&rule.verbs, &atom.verbs) && urls.iter().all(|u| owned.iter().any(|o| url_matches(o, u)));
        }
        let resources = some(atom.resources.as_ref());
        let names = some(rule.resource_names.as_ref());
        let wanted_names = some(atom.resource_names.as_ref());
        within(&rule.verbs, &atom.verbs)
            && within(some(rule.api_groups.as_ref()), some(atom.api_groups.as_ref()))
            && resources.iter().all(|r| covers_resource(some(rule.resources.as_ref()), r))
            && (names.is_empty() || (!wanted_names.is_empty() && wanted_names.iter().all(|n| names.contains(n))))
    })
}

fn covers_resource(owned: &[String], wanted: &str) -> bool {
    owned.iter().any(|o| {
        o == ALL || o == wanted || wanted.split_once('/').is_some_and(|(_, sub)| o.strip_prefix("*/") == Some(sub))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
        let list = |s: &str| s.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        PolicyRule {
            verbs: list(verbs),
            api_groups: Some(groups.split(',').map(str::to_owned).collect()),
            resources: Some(list(resources)),
            resource_names: Some(list(names)),
            non_resource_urls: None,
        }
    }

    fn check(rule: &PolicyRule, verb: &str, group: &str, resource: &str, name: &str, expected: bool) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let mut asked = Attributes::resource(verb, group, resource, "ns", name);
        subresource.clone_into(&mut asked.subresource);
        assert_eq!(allows(rule, &asked), expected, "{rule:?} {asked:?}");
    }

    #[test]
    fn resources() {
        let read = rule("get,list", "", "pods,*/scale", "");
        check(&read, "get", "", "pods", "a", true);
        check(&read, "get", "", "pods/log", "a", false);
        check(&read, "get", "", "services/scale", "a", true);
        check(&read, "delete", "", "pods", "a", false);
        check(&read, "get", "apps", "pods", "a", false);
        check(&rule("*", "*", "*", ""), "anything", "any", "where/at", "all", true);
        let named = rule("get", "", "secrets", "a");
        check(&named, "get", "", "secrets", "a", true);
        check(&named, "get", "", "secrets", "b", false);
        check(&named, "list", "", "secrets", "", false);
    }

    #[test]
    fn urls() {
        let rule = PolicyRule {
            verbs: vec!["get".into()],
            non_resource_urls: Some(vec!["/healthz".into(), "/api/*".into()]),
            ..PolicyRule::default()
        };
        for (path, expected) in [("/healthz", true), ("/api/v1", true), ("/api", false), ("/metrics", false)] {
            let asked = Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
            assert_eq!(allows(&rule, &asked), expected, "{path}");
        }
    }

    #[test]
    fn covering() {
        let owned = [rule("get,list", "", "pods", ""), rule("get", "", "secrets", "a"), rule("*", "apps", "*", "")];
        let check = |wanted: &PolicyRule, expected: bool| {
            assert_eq!(atoms(wanted).iter().all(|a| covers(&owned, a)), expected, "{wanted:?}");
        };
        check(&rule("list", "", "pods", "x"), true);
        check(&rule("get,watch", "", "pods", ""), false);
        check(&rule("get", "", "secrets", "a"), true);
        check(&rule("get", "", "secrets", ""), false);
        check(&rule("delete", "apps", "deployments/scale", ""), true);
        check(&rule("*", "*", "*", ""), false);
    }
}
