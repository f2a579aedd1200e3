//! Field selectors: `metadata.name=a,status.phase!=Running`.

use std::fmt;

use crate::table::Resource;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0:?}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: '{0}'")]
    Unescaped(char),
    /// The kind cannot be selected by this field.
    #[error("field label not supported: {0}")]
    Unsupported(String),
    /// The same, of a kind that has no selectable fields of its own.
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub value: String,
    pub negated: bool,
}

/// All of some conditions on fields; empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    /// The grammar of `fieldSelector=`; `\\`, `\,` and `\=` escape in values.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let mut terms = Vec::new();
        for part in split(text) {
            if part.is_empty() {
                continue;
            }
            let unknown = || FieldError::Term { selector: text.to_owned(), term: part.to_owned() };
            let (field, negated, value) = cut(part).ok_or_else(unknown)?;
            terms.push(Term { field: field.to_owned(), value: unescape(value)?, negated });
        }
        Ok(Self { terms })
    }

    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// `get` answers `None` for a field that the kind does not have.
    pub fn matches(&self, get: impl Fn(&str) -> Option<String>) -> bool {
        self.terms.iter().all(|term| (get(&term.field).unwrap_or_default() == term.value) != term.negated)
    }

    /// Refuses fields for which `known` says no.
    pub fn check(&self, known: impl Fn(&str) -> bool) -> Result<(), FieldError> {
        match self.terms.iter().find(|term| !known(&term.field)) {
            Some(term) => Err(FieldError::Unsupported(term.field.clone())),
            None => Ok(()),
        }
    }

    /// Refuses fields by which the kind cannot be selected.
    pub fn check_for(&self, resource: &Resource) -> Result<(), FieldError> {
        let known = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace")
                || resource.selectable.iter().any(|(name, _)| name == field)
        };
        self.check(known).map_err(|error| match error {
            FieldError::Unsupported(field) if resource.selectable.is_empty() => FieldError::Unknown(field),
            error => error,
        })
    }

    /// The one value that the field must have, if the selector pins it.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.field == field && !term.negated).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let sign = if term.negated { "!=" } else { "=" };
            let value = term.value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
            write!(f, "{comma}{}{sign}{value}", term.field)?;
        }
        Ok(())
    }
}

/// At commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// At the first operator: field, whether negated, value.
fn cut(term: &str) -> Option<(&str, bool, &str)> {
    let (at, _) = term.char_indices().find(|&(i, c)| c == '=' || term[i..].starts_with("!="))?;
    let rest = &term[at..];
    let (negated, value) = if let Some(value) = rest.strip_prefix("!=") {
        (true, value)
    } else {
        (false, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?)
    };
    Some((&term[..at], negated, value))
}

fn unescape(value: &str) -> Result<String, FieldError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => return Err(FieldError::Escape(format!("\\{}", other.map(String::from).unwrap_or_default()))),
            },
            ',' | '=' => return Err(FieldError::Unescaped(c)),
            _ => out.push(c),
        }
    }
    Ok(out)
}
