//! Single values: which JSON value fits which type, and its canonical form.

use api::meta;
use api::quantity::Quantity;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde_json::{Number, Value};

use super::go;
use crate::node::Scalar;

/// A JSON value as it was found.
pub(super) enum Found<'a> {
    Bool(bool),
    Number(Number),
    String(&'a str),
    /// `array` or `object`
    Composite(&'a str),
}

impl Found<'_> {
    /// As Go's decoder calls it.
    pub fn go_name(&self) -> &str {
        match self {
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Composite(name) => name,
        }
    }

    /// With the number, for types that take numbers, but not this one.
    fn with_number(&self) -> String {
        match self {
            Self::Number(number) => format!("number {number}"),
            other => other.go_name().to_owned(),
        }
    }
}

pub(super) enum Refusal {
    /// What was found does not go into the field; the walk knows the field.
    Mismatch(String),
    /// The type's own decoder has its own words.
    Text(String),
}

pub(super) fn read(wanted: Scalar, found: &Found<'_>) -> Result<Value, Refusal> {
    let mismatch = || Err(Refusal::Mismatch(found.with_number()));
    match (wanted, found) {
        (Scalar::String, Found::String(text)) => Ok((*text).into()),
        (Scalar::String | Scalar::Bytes | Scalar::Boolean, Found::Number(_)) => {
            Err(Refusal::Mismatch("number".to_owned()))
        }
        (Scalar::Boolean, Found::Bool(value)) => Ok((*value).into()),
        (Scalar::Int32, Found::Number(number)) => match number.as_i64().map(i32::try_from) {
            Some(Ok(value)) => Ok(value.into()),
            _ => mismatch(),
        },
        (Scalar::Int64, Found::Number(number)) => number.as_i64().map_or_else(mismatch, |value| Ok(value.into())),
        (Scalar::Double, Found::Number(number)) => Ok(number.clone().into()),
        (Scalar::Bytes, Found::String(text)) => bytes(text),
        (Scalar::Quantity, found) => quantity(found),
        (Scalar::IntOrString, found) => int_or_string(found),
        (Scalar::Time | Scalar::MicroTime, found) => time(wanted, found),
        _ => mismatch(),
    }
}

/// What Go has where a list or a map holds a null.
pub(super) fn zero(scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::String => Some("".into()),
        Scalar::Boolean => Some(false.into()),
        Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString => Some(0.into()),
        Scalar::Quantity => Some("0".into()),
        Scalar::Bytes => Some("".into()),
        Scalar::Time | Scalar::MicroTime => None,
    }
}

/// Go's decoder takes trailing bits that are not zero.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

fn bytes(text: &str) -> Result<Value, Refusal> {
    match go::base64_error(text) {
        Some(at) => Err(Refusal::Text(format!("illegal base64 data at input byte {at}"))),
        // As Go writes it back: bits beyond the last byte do not count.
        None => Ok(LENIENT
            .decode(text.replace(['\r', '\n'], ""))
            .map_or_else(|error| Err(Refusal::Text(error.to_string())), |bytes| Ok(STANDARD.encode(bytes).into()))?),
    }
}

fn quantity(found: &Found<'_>) -> Result<Value, Refusal> {
    let text = match found {
        Found::String(text) => text.trim().to_owned(),
        Found::Number(number) => number.to_string(),
        Found::Bool(_) | Found::Composite(_) => String::new(),
    };
    match text.parse::<Quantity>() {
        Ok(quantity) => Ok(quantity.to_string().into()),
        Err(error) => Err(Refusal::Text(error.to_string())),
    }
}

fn int_or_string(found: &Found<'_>) -> Result<Value, Refusal> {
    match found {
        Found::String(text) => Ok((*text).into()),
        Found::Number(number) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(number.clone().into()),
        other => {
            let found = other.with_number();
            Err(Refusal::Text(format!("json: cannot unmarshal {found} into Go value of type int32")))
        }
    }
}

fn time(wanted: Scalar, found: &Found<'_>) -> Result<Value, Refusal> {
    let Found::String(text) = found else {
        let found = found.go_name();
        return Err(Refusal::Text(format!("json: cannot unmarshal {found} into Go value of type string")));
    };
    match go::parse_time(text, wanted == Scalar::MicroTime) {
        Ok(time) if wanted == Scalar::MicroTime => Ok(meta::format_micro_time(time).into()),
        Ok(time) => Ok(meta::format_time(time).into()),
        Err(text) => Err(Refusal::Text(text)),
    }
}
