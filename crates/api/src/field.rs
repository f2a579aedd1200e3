//! Field paths and validation errors, worded as upstream's `field.Error` words them, since clients and people
//! match on the text.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde_json::Value;

/// A path such as `spec.containers[0].ports[name=http]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    /// `path.child`
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// `path[3]`
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// `path[key]`
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field; the variant's name is the `reason` of the `StatusCause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl Kind {
    /// The machine-readable `reason` in a `StatusCause`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
            Self::TypeInvalid => "Invalid value",
        }
    }
}

/// One finding about one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub kind: Kind,
    pub path: Path,
    body: String,
}

impl Error {
    pub fn required(path: &Path, detail: &str) -> Self {
        Self::plain(Kind::Required, path, detail)
    }

    pub fn forbidden(path: &Path, detail: &str) -> Self {
        Self::plain(Kind::Forbidden, path, detail)
    }

    pub fn internal(path: &Path, detail: &str) -> Self {
        Self::plain(Kind::Internal, path, detail)
    }

    pub fn invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::valued(Kind::Invalid, path, &value.into(), detail)
    }

    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::valued(Kind::TypeInvalid, path, &value.into(), detail)
    }

    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::valued(Kind::Duplicate, path, &value.into(), "")
    }

    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::valued(Kind::NotFound, path, &value.into(), "")
    }

    /// `Unsupported value: "x": supported values: "a", "b"`
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut sorted: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
        sorted.sort();
        let detail = if sorted.is_empty() { String::new() } else { format!("supported values: {}", sorted.join(", ")) };
        Self::valued(Kind::NotSupported, path, &value.into(), &detail)
    }

    pub fn too_long(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::plain(Kind::TooLong, path, &format!("may not be more than {max} {unit}"))
    }

    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::valued(Kind::TooMany, path, &actual.into(), &format!("must have at most {max} {unit}"))
    }

    /// The text without the path, as a cause's `message` carries it.
    pub fn body(&self) -> &str {
        &self.body
    }

    pub fn cause(&self) -> StatusCause {
        StatusCause {
            field: Some(self.path.to_string()),
            message: Some(self.body.clone()),
            reason: Some(self.kind.reason().to_owned()),
        }
    }

    fn plain(kind: Kind, path: &Path, detail: &str) -> Self {
        let body = if detail.is_empty() { kind.words().to_owned() } else { format!("{}: {detail}", kind.words()) };
        Self { kind, path: path.clone(), body }
    }

    fn valued(kind: Kind, path: &Path, value: &Value, detail: &str) -> Self {
        let mut body = format!("{}: {}", kind.words(), quote(value));
        if !detail.is_empty() {
            body.push_str(": ");
            body.push_str(detail);
        }
        Self { kind, path: path.clone(), body }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}

/// Strings in quotes, `null` for nothing, everything else as compact JSON.
fn quote(value: &Value) -> String {
    value.to_string()
}

/// Findings in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorList(Vec<Error>);

impl ErrorList {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, error: Error) {
        self.0.push(error);
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Error> for ErrorList {
    fn from_iter<I: IntoIterator<Item = Error>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// One error stands alone; several are joined in brackets.
impl fmt::Display for ErrorList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::new();
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Error, expected: &str) {
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn wording() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        check(Error::required(&path, ""), "spec.containers[0].name: Required value");
        check(Error::invalid(&path, "A", "bad"), r#"spec.containers[0].name: Invalid value: "A": bad"#);
        check(Error::duplicate(&path, "a"), r#"spec.containers[0].name: Duplicate value: "a""#);
        check(Error::forbidden(&path, "no"), "spec.containers[0].name: Forbidden: no");
        check(
            Error::not_supported(&path, "x", &["b", "a"]),
            r#"spec.containers[0].name: Unsupported value: "x": supported values: "a", "b""#,
        );
    }

    #[test]
    fn several_errors_are_joined_in_brackets_without_repeats() {
        let path = Path::new("a");
        let mut errors = ErrorList::new();
        errors.push(Error::required(&path, ""));
        assert_eq!(errors.to_string(), "a: Required value");
        errors.push(Error::required(&path, ""));
        errors.push(Error::invalid(&path, 3, "no"));
        assert_eq!(errors.to_string(), "[a: Required value, a: Invalid value: 3: no]");
    }
}
