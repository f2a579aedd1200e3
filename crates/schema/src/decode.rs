//! Decoding of request bodies, led by the model: what is unknown is pruned and reported, what repeats is reported,
//! what does not fit is refused in the words of Go's decoder, quantities and times come out in canonical form and
//! nulls are dropped as Go drops them. Names are case-sensitive.

mod go;
mod repeats;
mod scalar;
mod syntax;
mod walk;

use api::ApiError;
use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::builtin::Schemas;
use crate::node::{Gvk, Node};
pub use repeats::repeats;
pub use syntax::error as syntax_error;
use walk::{Seed, State};

const DELETE_OPTIONS: &str = "DeleteOptions";

/// The `fieldValidation` query parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// `None` for an unknown value; the empty string is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// Why a body cannot be taken. `Display` is the whole text of the BadRequest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It says what it is, and is not what was expected or is broken.
    #[error("{found} in version {version:?} cannot be handled as a {expected}: {cause}")]
    Unfit { found: String, version: String, expected: String, cause: String },
    /// It cannot even be seen what it is.
    #[error("the object provided is unrecognized (must be of type {expected}): {cause} ({summary})")]
    Unrecognized { expected: String, cause: String, summary: String },
    #[error("the API version in the data ({found}) does not match the expected API version ({expected})")]
    Version { found: String, expected: String },
}

impl DecodeError {
    /// What is wrong, without what it was read as: the text that the refusal of a patch carries.
    pub fn cause(&self) -> String {
        match self {
            Self::Unfit { cause, .. } | Self::Unrecognized { cause, .. } => cause.clone(),
            Self::Version { .. } => self.to_string(),
        }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// Reads an object of the kind `expected`: pruned, with `apiVersion` and `kind` set. The strings are warnings for the
/// client.
pub fn decode_json(
    bytes: &[u8],
    expected: &Gvk,
    node: &Node,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), DecodeError> {
    check_kind(&read_header(bytes, expected)?, expected)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    finish(&mut deserializer, expected, node, validation)
}

/// Whether a body that claims this `apiVersion` and `kind` (empty where it leaves them out) is of the expected one.
pub fn check_claim(api_version: &str, kind: &str, expected: &Gvk) -> Result<(), DecodeError> {
    check_kind(&go::Header { api_version: api_version.to_owned(), kind: kind.to_owned() }, expected)
}

fn read_header(bytes: &[u8], expected: &Gvk) -> Result<go::Header, DecodeError> {
    go::Header::read(bytes).map_err(|cause| DecodeError::Unrecognized {
        expected: expected.kind.to_string(),
        cause: format!("couldn't get version/kind; json parse error: {cause}"),
        summary: go::summary(bytes),
    })
}

/// The body as an error about its encoding shows it.
pub fn unrecognized(bytes: &[u8], expected: &Gvk, cause: String) -> DecodeError {
    DecodeError::Unrecognized { expected: expected.kind.to_string(), cause, summary: go::summary(bytes) }
}

/// As `decode_json`, of a value in hand, such as the result of a patch.
pub fn decode_value(
    value: &Value,
    expected: &Gvk,
    node: &Node,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), DecodeError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    check_kind(&go::Header { api_version: text("apiVersion"), kind: text("kind") }, expected)?;
    finish(value, expected, node, validation)
}

fn finish<'de, D: Deserializer<'de, Error = serde_json::Error>>(
    deserializer: D,
    expected: &Gvk,
    node: &Node,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), DecodeError> {
    let unfit = |cause: String| DecodeError::Unfit {
        found: expected.kind.to_string(),
        version: expected.version.to_string(),
        expected: expected.kind.to_string(),
        cause,
    };
    let mut state = State::default();
    let decoded = Seed { state: &mut state, node }.deserialize(deserializer);
    let decoded = decoded.map_err(|e| unfit(e.to_string()))?;
    if let Some(error) = state.type_error {
        return Err(unfit(error));
    }
    if validation == FieldValidation::Strict && !state.strict.is_empty() {
        return Err(unfit(format!("strict decoding error: {}", state.strict.join(", "))));
    }
    let mut object = decoded.filter(Value::is_object).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    object["apiVersion"] = expected.api_version().into();
    object["kind"] = (*expected.kind).into();
    let warnings = if validation == FieldValidation::Warn { state.strict } else { Vec::new() };
    Ok((object, warnings))
}

/// What the body says it is; what it leaves out is taken to be as expected.
fn check_kind(header: &go::Header, expected: &Gvk) -> Result<(), DecodeError> {
    let kind = if header.kind.is_empty() { &*expected.kind } else { &header.kind };
    let found = match header.api_version.as_str() {
        "" => Gvk { kind: kind.into(), ..expected.clone() },
        api_version => Gvk::from_type(api_version, kind),
    };
    // Clients write the options of a delete in the version of what they delete.
    let options = kind == DELETE_OPTIONS && *kind == *expected.kind;
    if found == *expected || options {
        return Ok(());
    }
    let unfit = |cause: String| DecodeError::Unfit {
        found: kind.to_owned(),
        version: found.version.to_string(),
        expected: expected.kind.to_string(),
        cause,
    };
    if Schemas::builtin().get(&found).is_none() {
        let scheme = "pkg/api/legacyscheme/scheme.go:30";
        let version = found.api_version();
        return Err(unfit(format!("no kind {kind:?} is registered for version {version:?} in scheme {scheme:?}")));
    }
    if found.group == expected.group && found.kind == expected.kind {
        return Err(DecodeError::Version { found: found.api_version(), expected: expected.api_version() });
    }
    let package = expected.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
    let cause = format!("converting ({}.{kind}) to ({package}.{}): unknown conversion", found.version, expected.kind);
    Err(unfit(cause))
}

#[cfg(test)]
mod tests;
