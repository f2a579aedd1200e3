//! A field set as `FieldsV1`: nested objects, `.` for the member that leads on.

use serde_json::{Map, Value};

use super::path::Element;
use super::set::{Branch, FieldSet};

const SELF: &str = ".";

impl FieldSet {
    pub fn encode(&self) -> Value {
        Value::Object(encode(self))
    }

    /// `None` for what is no tree of objects.
    pub fn decode(fields: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (name, below) in fields.as_object()? {
            if name == SELF {
                continue;
            }
            // A step of a later version is skipped with all that lies below it.
            let Some(step) = Element::decode(name) else { continue };
            let children = below.as_object()?;
            let leads_on = children.keys().any(|k| k != SELF);
            let branch = Branch { member: !leads_on || children.contains_key(SELF), below: Self::decode(below)? };
            set.0.insert(step, branch);
        }
        Some(set)
    }
}

fn encode(set: &FieldSet) -> Map<String, Value> {
    let branches = set.0.iter().map(|(step, branch)| {
        let mut below = Map::new();
        if branch.member && !branch.below.is_empty() {
            below.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        below.extend(encode(&branch.below));
        (step.encode(), Value::Object(below))
    });
    branches.collect()
}
