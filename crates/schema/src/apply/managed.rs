//! `metadata.managedFields`: who has which fields, since when, through what.

use std::fmt;

use serde_json::{Map, Value, json};

use super::set::FieldSet;

/// Updates beyond this many managers are kept under one name, the oldest first.
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What one manager has by one way of writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339, in whole seconds and UTC, so that texts compare as times.
    pub time: Option<String>,
    pub fields: FieldSet,
}

impl Entry {
    /// Whether both are of the same manager, which is one for each operation and subresource. An applier stays the same
    /// in every version.
    pub fn is_same_manager(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn decode(entry: &Value, at: usize) -> Result<Self, ManagedError> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err(ManagedError("operation must be `Apply` or `Update`".to_owned())),
        };
        if text("apiVersion").is_empty() {
            return Err(ManagedError("apiVersion must not be empty".to_owned()));
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(ManagedError(format!("missing fieldsType in managed fields entry {at}"))),
            other => return Err(ManagedError(format!("invalid fieldsType {other:?} in managed fields entry {at}"))),
        }
        let fields = match entry.get("fieldsV1") {
            None | Some(Value::Null) => FieldSet::default(),
            Some(fields) => FieldSet::decode(fields)
                .ok_or_else(|| ManagedError(format!("error decoding set in managed fields entry {at}")))?,
        };
        Ok(Self {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            fields,
        })
    }

    fn encode(&self) -> Value {
        let mut entry = Map::new();
        if !self.manager.is_empty() {
            entry.insert("manager".to_owned(), self.manager.as_str().into());
        }
        entry.insert("operation".to_owned(), self.operation.name().into());
        entry.insert("apiVersion".to_owned(), self.api_version.as_str().into());
        if let Some(time) = &self.time {
            entry.insert("time".to_owned(), time.as_str().into());
        }
        entry.insert("fieldsType".to_owned(), "FieldsV1".into());
        entry.insert("fieldsV1".to_owned(), self.fields.encode());
        if !self.subresource.is_empty() {
            entry.insert("subresource".to_owned(), self.subresource.as_str().into());
        }
        Value::Object(entry)
    }
}

/// As conflicts name a manager: `"kubectl" using apps/v1`
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// Why a list of managed fields cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ManagedError(String);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed(pub Vec<Entry>);

impl Managed {
    /// Of an object; one that has none has an empty list.
    pub fn of(object: &Value) -> Result<Self, ManagedError> {
        match object.pointer("/metadata/managedFields") {
            Some(Value::Array(entries)) => entries
                .iter()
                .enumerate()
                .map(|(at, entry)| Entry::decode(entry, at))
                .collect::<Result<_, _>>()
                .map(Self),
            _ => Ok(Self::default()),
        }
    }

    /// Puts the list into an object.
    pub fn write(mut self, object: &mut Value) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        if self.0.is_empty() {
            metadata.remove("managedFields");
            return;
        }
        self.0.sort_by(|a, b| key(a).cmp(&key(b)));
        metadata.insert("managedFields".to_owned(), json!(self.0.iter().map(Entry::encode).collect::<Vec<_>>()));
    }

    pub(super) fn find(&mut self, like: &Entry) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.is_same_manager(like))
    }

    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    /// Puts the oldest updates together, until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<usize> =
            (0..self.0.len()).filter(|at| self.0[*at].operation == Operation::Update).collect();
        let mut excess = updaters.len().saturating_sub(MAX_UPDATERS);
        if excess == 0 {
            return;
        }
        updaters.sort_by(|a, b| age(&self.0[*a]).cmp(&age(&self.0[*b])));
        let mut buckets: Vec<Entry> = Vec::new();
        let mut firsts: Vec<usize> = Vec::new();
        let mut gone: Vec<usize> = Vec::new();
        for at in updaters {
            if excess == 0 {
                break;
            }
            let entry = &self.0[at];
            let first = firsts.iter().copied().find(|first| self.0[*first].api_version == entry.api_version);
            let Some(first) = first else {
                firsts.push(at);
                continue;
            };
            match buckets.iter_mut().find(|bucket| bucket.api_version == entry.api_version) {
                Some(bucket) => {
                    bucket.fields.add(&entry.fields);
                    bucket.time.clone_from(&entry.time);
                }
                None => {
                    let fields = self.0[first].fields.clone().union(&entry.fields);
                    let (manager, subresource) = (ANCIENT.to_owned(), String::new());
                    buckets.push(Entry { manager, subresource, fields, ..entry.clone() });
                    gone.push(first);
                }
            }
            gone.push(at);
            excess -= 1;
        }
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
        self.0.extend(buckets);
    }
}

/// Appliers come first, then the older, then by name.
fn key(entry: &Entry) -> (Operation, &str, &str, &str, &str) {
    let time = entry.time.as_deref().unwrap_or_default();
    (entry.operation, time, &entry.manager, &entry.api_version, &entry.subresource)
}

fn age(entry: &Entry) -> (&str, &str, &str, &str) {
    let (_, time, manager, version, subresource) = key(entry);
    (time, manager, version, subresource)
}
