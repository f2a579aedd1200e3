//! The words of Go's decoders: names of types, syntax errors, times and base64.

use jiff::Timestamp;
use serde::Deserialize;

use super::syntax;
use crate::node::{Node, Scalar, Shape};

/// How much of a body an error shows.
const SUMMARY_MAX: usize = 30;

/// What a body says it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Header {
    #[serde(deserialize_with = "null_is_empty")]
    pub api_version: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub kind: String,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Header {
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        const HEADER_TYPE: &str =
            r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        let error = match serde_json::from_slice(bytes) {
            Ok(header) => return Ok(header),
            Err(error) => error,
        };
        if !error.is_data() {
            return Err(syntax::error(bytes).unwrap_or_else(|| error.to_string()));
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
            // A field twice: the last counts.
            return Ok(Self::default());
        };
        if !value.is_object() {
            return match kind_of(&value) {
                "null" => Ok(Self::default()),
                found => Err(format!("json: cannot unmarshal {found} into Go value of type {HEADER_TYPE}")),
            };
        }
        let text = |key: &str| match value.get(key) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            None | Some(serde_json::Value::Null) => Ok(String::new()),
            Some(other) => {
                let found = kind_of(other);
                Err(format!("json: cannot unmarshal {found} into Go struct field .{key} of type string"))
            }
        };
        Ok(Self { api_version: text("apiVersion")?, kind: text("kind")? })
    }
}

fn kind_of(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "bool",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    }
}

/// The beginning of a body: as text when it looks like JSON, else in hexadecimal.
pub(super) fn summary(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SUMMARY_MAX)];
    let more = if bytes.len() > SUMMARY_MAX { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(cut)),
        Some(_) => format!("{}{more}", cut.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

/// The type of a field as Go prints it.
pub(super) fn type_name(node: &Node) -> String {
    if let (Some(definition), Shape::Object(_)) = (node.definition(), &node.resolve().shape) {
        return definition.go_name().to_owned();
    }
    match &node.resolve().shape {
        Shape::Any => "interface {}".to_owned(),
        Shape::List(element) => format!("[]{}", type_name(element)),
        Shape::Map(element) => format!("map[string]{}", type_name(element)),
        Shape::Object(_) => "struct".to_owned(),
        Shape::Ref(definition) => definition.go_name().to_owned(),
        Shape::Scalar(scalar) => scalar_name(*scalar).to_owned(),
    }
}

fn scalar_name(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::String => "string",
        Scalar::Bytes => "[]uint8",
        Scalar::Boolean => "bool",
        Scalar::Int32 => "int32",
        Scalar::Int64 => "int64",
        Scalar::Double => "float64",
        Scalar::IntOrString => "intstr.IntOrString",
        Scalar::Quantity => "resource.Quantity",
        Scalar::Time => "v1.Time",
        Scalar::MicroTime => "v1.MicroTime",
    }
}

/// Where standard base64 with padding breaks; line ends do not count.
pub(super) fn base64_error(text: &str) -> Option<usize> {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let mut places = text.bytes().enumerate().filter(|&(_, b)| b != b'\r' && b != b'\n');
    let mut in_group = 0;
    while let Some((at, byte)) = places.next() {
        match byte {
            b'=' if in_group == 3 => return places.next().map(|(at, _)| at),
            b'=' if in_group == 2 => {
                return match places.next() {
                    None => Some(text.len()),
                    Some((at, b)) if b != b'=' => Some(at),
                    Some(_) => places.next().map(|(at, _)| at),
                };
            }
            byte if is_digit(byte) => in_group = (in_group + 1) % 4,
            _ => return Some(at),
        }
    }
    (in_group != 0).then(|| text.len() - in_group)
}

/// RFC 3339, or Go's complaint.
pub(super) fn parse_time(text: &str, micro: bool) -> Result<Timestamp, String> {
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let complain = |rest: String| format!("parsing time {text:?} as {layout:?}: {rest}");
    if let Err((rest, element)) = match_layout(text, micro) {
        return Err(complain(format!("cannot parse {rest:?} as {element:?}")));
    }
    text.parse().map_err(|_| {
        let number = |range: std::ops::Range<usize>| text.get(range).and_then(|s| s.parse::<u32>().ok()).unwrap_or(0);
        let what = match () {
            () if !(1..=12).contains(&number(5..7)) => "month",
            () if number(11..13) > 23 => "hour",
            () if number(14..16) > 59 => "minute",
            () if number(17..19) > 59 => "second",
            () => "day",
        };
        format!("parsing time {text:?}: {what} out of range")
    })
}

/// Which element of the layout the text first departs from, and what stands there.
fn match_layout(text: &str, micro: bool) -> Result<(), (&str, &'static str)> {
    const ELEMENTS: [(&str, usize); 11] = [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
    ];
    let mut rest = text;
    for (element, digits) in ELEMENTS {
        let fits = if digits == 0 {
            rest.starts_with(element)
        } else {
            rest.len() >= digits && rest.bytes().take(digits).all(|b| b.is_ascii_digit())
        };
        if !fits {
            return Err((rest, element));
        }
        rest = &rest[element.len()..];
    }
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            if digits == 0 || (micro && digits != 6) {
                return Err((rest, if micro { ".000000" } else { "Z07:00" }));
            }
            &fraction[digits..]
        }
        None if micro => return Err((rest, ".000000")),
        None => rest,
    };
    let offset = zone.strip_prefix(['+', '-']).is_some_and(|o| {
        o.len() == 5 && o.bytes().enumerate().all(|(i, b)| if i == 2 { b == b':' } else { b.is_ascii_digit() })
    });
    if zone == "Z" || offset { Ok(()) } else { Err((zone, "Z07:00")) }
}
