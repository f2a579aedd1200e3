//! Label selectors, label maps and node selectors.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, TopologySelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{Error, ErrorList, Path, each, items, names};

pub(crate) type Labels = BTreeMap<String, String>;

pub fn labels(labels: &Option<Labels>, path: &Path, errs: &mut ErrorList) {
    if let Some(labels) = labels {
        errs.extend(api::objectmeta::validate_labels(labels, path));
    }
}

pub fn annotations(annotations: &Option<Labels>, path: &Path, errs: &mut ErrorList) {
    if let Some(annotations) = annotations {
        errs.extend(api::objectmeta::validate_annotations(annotations, path));
    }
}

pub fn label_selector(selector: &LabelSelector, path: &Path, errs: &mut ErrorList) {
    labels(&selector.match_labels, &path.child("matchLabels"), errs);
    for (path, requirement) in items(&selector.match_expressions, &path.child("matchExpressions")) {
        expression(requirement, &path, errs);
    }
}

fn expression(r: &LabelSelectorRequirement, path: &Path, errs: &mut ErrorList) {
    let values = r.values.as_deref().unwrap_or_default();
    match r.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errs.push(Error::required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errs.push(Error::forbidden(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" => {}
        other => errs.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    each(names::qualified_name(&r.key), &r.key, &path.child("key"), errs);
    for (i, value) in values.iter().enumerate() {
        each(names::label_value(value), value, &path.child("values").index(i), errs);
    }
}

/// Whether nothing is asked for at all; such a selector matches everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|r| holds(r, labels.get(&r.key)))
}

fn holds(r: &LabelSelectorRequirement, value: Option<&String>) -> bool {
    let listed = value.is_some_and(|v| r.values.iter().flatten().any(|w| w == v));
    match r.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

pub fn node_selector(selector: &NodeSelector, path: &Path, errs: &mut ErrorList) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errs.push(Error::required(&path, "must have at least one node selector term"));
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(term, &path.index(i), errs);
    }
}

pub fn node_selector_term(term: &NodeSelectorTerm, path: &Path, errs: &mut ErrorList) {
    for (path, r) in items(&term.match_expressions, &path.child("matchExpressions")) {
        node_requirement(r, &path, errs);
        each(names::qualified_name(&r.key), &r.key, &path.child("key"), errs);
    }
    for (path, r) in items(&term.match_fields, &path.child("matchFields")) {
        node_field(r, &path, errs);
    }
}

fn node_requirement(r: &NodeSelectorRequirement, path: &Path, errs: &mut ErrorList) {
    let values = r.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match r.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errs.push(Error::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errs.push(Error::forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errs.push(Error::required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errs.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
}

/// Nodes can be selected by one field only: their name.
fn node_field(r: &NodeSelectorRequirement, path: &Path, errs: &mut ErrorList) {
    let values = r.values.as_deref().unwrap_or_default();
    if !matches!(r.operator.as_str(), "In" | "NotIn") {
        errs.push(Error::invalid(&path.child("operator"), r.operator.as_str(), "not a valid selector operator"));
    } else if values.len() != 1 {
        let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
        errs.push(Error::required(&path.child("values"), detail));
    }
    if r.key != "metadata.name" {
        errs.push(Error::invalid(&path.child("key"), r.key.as_str(), "not a valid field selector key"));
        return;
    }
    for (i, value) in values.iter().enumerate() {
        each(names::dns_subdomain(value), value, &path.child("values").index(i), errs);
    }
}

pub fn topology_term(term: &TopologySelectorTerm, path: &Path, errs: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for (path, r) in items(&term.match_label_expressions, &path.child("matchLabelExpressions")) {
        if r.values.is_empty() {
            errs.push(Error::required(&path.child("values"), ""));
        }
        each(names::qualified_name(&r.key), &r.key, &path.child("key"), errs);
        if !seen.insert(r.key.as_str()) {
            errs.push(Error::duplicate(&path.child("key"), ""));
        }
    }
}
