//! Where in an object: one step of a path, as `FieldsV1` writes it and as messages show it.

use std::fmt;

use serde_json::{Map, Value};

/// One step. Values are kept as their JSON text, so that steps can be ordered and compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    Field(String),
    /// An item of a list of type map, by its keys in order.
    Key(Vec<(String, String)>),
    /// An item of a set.
    Value(String),
    Index(i64),
}

impl Element {
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// `f:name`, `k:{"name":"a"}`, `v:"a"`, `i:0`
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{}:{v}", text(k))).collect();
                format!("k:{{{}}}", pairs.join(","))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }

    /// `None`: no step that this server knows; upstream skips such, too.
    pub fn decode(encoded: &str) -> Option<Self> {
        let (sort, rest) = encoded.split_once(':')?;
        match sort {
            "f" => Some(Self::field(rest)),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::key(keys.iter().map(|(k, v)| (k.as_str(), v))))
            }
            "v" => Some(Self::value(&serde_json::from_str(rest).ok()?)),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    pub fn key<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>) -> Self {
        let mut pairs: Vec<(String, String)> = pairs.map(|(k, v)| (k.to_owned(), scalar(v))).collect();
        pairs.sort();
        Self::Key(pairs)
    }

    pub fn value(value: &Value) -> Self {
        Self::Value(scalar(value))
    }
}

/// Numbers that are equal read equal: `1.0` is `1`.
fn scalar(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if !value.is_i64() && !value.is_u64() && number.fract() == 0.0 && number.abs() < 1e15 => {
            format!("{number:.0}")
        }
        _ => value.to_string(),
    }
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// As upstream's messages have it: `.spec.containers[name="a"].image`
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", pairs.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(at) => write!(f, "[{at}]"),
        }
    }
}

pub fn show(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}
