//! Whether a node suits a pod's node selector, required node affinity and tolerations.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

use crate::meta::Meta;
use crate::selector;

/// The node selector and the required terms of the node affinity.
pub fn fits_affinity(spec: &PodSpec, node: &Node) -> bool {
    if spec.node_selector.as_ref().is_some_and(|wanted| !selector::contains(node.meta().labels.as_ref(), wanted)) {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// An empty term matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    expressions.clone().all(|requirement| satisfied(requirement, node.label(&requirement.key)))
        && fields
            .clone()
            .all(|requirement| requirement.key == "metadata.name" && satisfied(requirement, Some(node.name())))
}

fn satisfied(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let listed = || value.is_some_and(|value| requirement.values.iter().flatten().any(|option| option == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |check: fn(i64, i64) -> bool| {
        let bound = requirement.values.iter().flatten().next().and_then(|text| number(text));
        value.and_then(number).zip(bound).is_some_and(|(value, bound)| check(value, bound))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// Whether every taint with one of these effects is tolerated.
pub fn tolerates_all(tolerations: &[Toleration], node: &Node, effects: &[&str]) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, operator: &str, value: &str, effect: &str, expected: bool) {
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let toleration = Toleration {
            key: set(key),
            operator: set(operator),
            value: set(value),
            effect: set(effect),
            toleration_seconds: None,
        };
        let taint = Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
    }

    #[test]
    fn tolerations() {
        check("k", "Equal", "v", "NoSchedule", true);
        check("k", "", "v", "", true);
        check("k", "Equal", "w", "NoSchedule", false);
        check("k", "Exists", "", "", true);
        check("", "Exists", "", "", true);
        check("", "Exists", "", "NoExecute", false);
        check("", "Equal", "", "", false);
        check("other", "Exists", "", "", false);
    }

    #[test]
    fn an_empty_term_matches_nothing() {
        assert!(!term_matches(&NodeSelectorTerm::default(), &Node::default()));
    }
}
