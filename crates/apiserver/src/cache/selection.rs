//! What a list or watch takes: a namespace, label and field selectors, answered from the cached index alone.

use api::ApiError;
use api::selector::{FieldSelector, Selector};
use api::table::Resource;

use super::Entry;
use crate::http::query::Query;

#[derive(Clone, Debug)]
pub struct Selection {
    /// Empty: all of them, or a kind without.
    pub namespace: String,
    labels: Selector,
    fields: Vec<Field>,
}

/// One term of a field selector, resolved against the resource's row.
#[derive(Clone, Debug)]
struct Field {
    source: Source,
    value: String,
    negated: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Name,
    Namespace,
    Selectable(usize),
}

impl Default for Selection {
    fn default() -> Self {
        Self { namespace: String::new(), labels: Selector::everything(), fields: Vec::new() }
    }
}

impl Selection {
    /// Everything in a namespace.
    pub fn within(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    pub fn parse(row: &Resource, namespace: &str, query: &Query) -> Result<Self, ApiError> {
        let labels = query.get("labelSelector").unwrap_or_default();
        let labels = Selector::parse(labels).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let fields = query.get("fieldSelector").unwrap_or_default();
        let fields = FieldSelector::parse(fields).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let known = |name: &str| source(row, name).is_some();
        fields.check(known).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let fields = fields.terms().iter().filter_map(|term| {
            let source = source(row, &term.field)?;
            Some(Field { source, value: term.value.clone(), negated: term.negated })
        });
        Ok(Self { namespace: namespace.to_owned(), labels, fields: fields.collect() })
    }

    /// A single object, as a GET with `watch` asks for it.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.fields.push(Field { source: Source::Name, value: name.to_owned(), negated: false });
        self
    }

    /// Nothing but a namespace.
    pub fn is_plain(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// Where the keys of the namespace begin.
    pub fn key_prefix(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) }
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        (self.namespace.is_empty() || entry.namespace() == self.namespace)
            && self.fields.iter().all(|field| field.matches(entry))
            && (self.labels.is_everything() || self.labels.matches_by(|key| entry.label(key)))
    }
}

impl Field {
    fn matches(&self, entry: &Entry) -> bool {
        let value = match self.source {
            Source::Name => entry.name(),
            Source::Namespace => entry.namespace(),
            Source::Selectable(i) => entry.fields.get(i).map_or("", |f| f),
        };
        (value == self.value) != self.negated
    }
}

fn source(row: &Resource, field: &str) -> Option<Source> {
    match field {
        "metadata.name" => Some(Source::Name),
        "metadata.namespace" => Some(Source::Namespace),
        _ => row.selectable.iter().position(|(name, _)| name == field).map(Source::Selectable),
    }
}
