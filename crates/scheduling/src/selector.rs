//! Label and node selectors, parsed once and then only matched.
//!
//! What the API server's validation would refuse (an unknown operator, `Gt` of a word) matches nothing here,
//! so an object that slipped through makes a pod wait rather than land in the wrong place.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::labels::Labels;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Operator {
    In(Box<[Box<str>]>),
    NotIn(Box<[Box<str>]>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Requirement {
    key: Box<str>,
    operator: Operator,
}

impl Requirement {
    fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Self {
        let values = values.map(Vec::as_slice).unwrap_or_default();
        let set = || values.iter().map(|v| v.as_str().into()).collect();
        let bound = || values.first().and_then(|v| v.parse::<i64>().ok());
        let operator = match operator {
            "In" => Operator::In(set()),
            "NotIn" => Operator::NotIn(set()),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => bound().map_or(Operator::Never, Operator::Gt),
            "Lt" => bound().map_or(Operator::Never, Operator::Lt),
            _ => Operator::Never,
        };
        Requirement { key: key.into(), operator }
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(set) => value.is_some_and(|v| set.iter().any(|s| **s == *v)),
            Operator::NotIn(set) => value.is_none_or(|v| set.iter().all(|s| **s != *v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(bound) => number().is_some_and(|n| n > *bound),
            Operator::Lt(bound) => number().is_some_and(|n| n < *bound),
            Operator::Never => false,
        }
    }
}

/// A label selector. `Selector::default()` matches everything, [`Selector::nothing`] nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Box<[Requirement]>,
}

impl Selector {
    /// What an absent selector means to the scheduler: no object matches.
    pub fn nothing() -> Self {
        Selector { requirements: Box::new([Requirement { key: "".into(), operator: Operator::Never }]) }
    }

    pub fn new(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Selector::nothing() };
        let labels = selector.match_labels.iter().flatten().map(|(k, v)| equals(k, v));
        let expressions = selector.match_expressions.iter().flatten();
        let expressions = expressions.map(|e| Requirement::new(&e.key, &e.operator, e.values.as_ref()));
        Selector { requirements: labels.chain(expressions).collect() }
    }

    /// Equality on every given pair, as in a Service's selector.
    pub fn equal_to<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Selector { requirements: pairs.into_iter().map(|(k, v)| equals(k, v)).collect() }
    }

    /// The selector that also demands `key` to have (or not to have) `value`.
    pub fn and(self, key: &str, value: &str, wanted: bool) -> Self {
        let set: Box<[Box<str>]> = Box::new([value.into()]);
        let operator = if wanted { Operator::In(set) } else { Operator::NotIn(set) };
        let mut requirements = self.requirements.into_vec();
        requirements.push(Requirement { key: key.into(), operator });
        Selector { requirements: requirements.into() }
    }

    /// Both selectors must match.
    pub fn both(self, other: &Selector) -> Self {
        let mut requirements = self.requirements.into_vec();
        requirements.extend(other.requirements.iter().cloned());
        Selector { requirements: requirements.into() }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels.get(&r.key)))
    }
}

fn equals(key: &str, value: &str) -> Requirement {
    Requirement { key: key.into(), operator: Operator::In(Box::new([value.into()])) }
}

/// One term of a node selector: every expression and every field must match. An empty term matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    expressions: Box<[Requirement]>,
    fields: Box<[Requirement]>,
}

impl NodeTerm {
    pub fn new(term: &core::NodeSelectorTerm) -> Self {
        let parse = |list: &Option<Vec<core::NodeSelectorRequirement>>| {
            list.iter().flatten().map(|r| Requirement::new(&r.key, &r.operator, r.values.as_ref())).collect()
        };
        NodeTerm { expressions: parse(&term.match_expressions), fields: parse(&term.match_fields) }
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        if self.expressions.is_empty() && self.fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(name);
        self.expressions.iter().all(|r| r.matches(labels.get(&r.key)))
            && self.fields.iter().all(|r| r.matches(field(&r.key)))
    }

    /// The names this term allows, when it names nodes at all.
    pub fn names(&self) -> Option<Vec<&str>> {
        let mut allowed: Option<Vec<&str>> = None;
        for field in self.fields.iter().filter(|r| &*r.key == "metadata.name") {
            if let Operator::In(set) = &field.operator {
                let set = set.iter().map(|s| &**s);
                allowed = Some(match allowed {
                    None => set.collect(),
                    Some(before) => set.filter(|s| before.contains(s)).collect(),
                });
            }
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(selector: Value, labels: Labels, expected: bool) {
        let parsed: Option<LabelSelector> = serde_json::from_value(selector.clone()).expect("a selector");
        assert_eq!(Selector::new(parsed.as_ref()).matches(&labels), expected, "{selector} on {labels:?}");
    }

    #[test]
    fn label_selectors() {
        let app = || Labels::from([("app", "web"), ("tier", "front")]);
        check(Value::Null, app(), false);
        check(json!({}), app(), true);
        check(json!({"matchLabels": {"app": "web"}}), app(), true);
        check(json!({"matchLabels": {"app": "db"}}), app(), false);
        let one =
            |op: &str, values: &[&str]| json!({"matchExpressions": [{"key": "app", "operator": op, "values": values}]});
        check(one("In", &["db", "web"]), app(), true);
        check(one("NotIn", &["web"]), app(), false);
        check(one("NotIn", &["web"]), Labels::default(), true);
        check(one("Exists", &[]), app(), true);
        check(one("DoesNotExist", &[]), app(), false);
        check(one("Near", &["web"]), app(), false);
    }

    #[test]
    fn node_terms() {
        let check = |term: Value, expected: bool| {
            let parsed: core::NodeSelectorTerm = serde_json::from_value(term.clone()).expect("a term");
            let labels = Labels::from([("cores", "8")]);
            assert_eq!(NodeTerm::new(&parsed).matches("n1", &labels), expected, "{term}");
        };
        check(json!({}), false);
        check(json!({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}), true);
        check(json!({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]}), false);
        check(json!({"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["9"]}]}), true);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}), false);
    }
}
