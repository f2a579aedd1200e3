//! Label selectors over plain label maps.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

pub type Labels = BTreeMap<String, String>;

/// An empty selector matches everything, as in the API; callers that must not select everything ask `is_empty`.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let get = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| satisfied(requirement, get(&requirement.key)))
}

fn satisfied(requirement: &LabelSelectorRequirement, value: Option<&str>) -> bool {
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|option| option == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether `wanted` is a part of `labels`: the old equality selectors of Services and ReplicationControllers.
pub fn contains(labels: Option<&Labels>, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

pub fn from_labels(labels: &Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels.clone()), match_expressions: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operator: &str, values: &[&str], label: Option<&str>, expected: bool) {
        let selector = LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "k".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
            }]),
            match_labels: None,
        };
        let labels: Labels = label.map(|value| ("k".to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!(matches(&selector, Some(&labels)), expected, "{operator} {values:?} {label:?}");
    }

    #[test]
    fn operators() {
        check("In", &["a", "b"], Some("a"), true);
        check("In", &["a", "b"], None, false);
        check("NotIn", &["a"], Some("a"), false);
        check("NotIn", &["a"], None, true);
        check("Exists", &[], Some("x"), true);
        check("Exists", &[], None, false);
        check("DoesNotExist", &[], None, true);
        check("Unknown", &[], Some("x"), false);
    }
}
