//! One cached object: its bytes and what selectors, authorizers and keys need of it, parsed once.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use schema::Node;
use serde_json::Value;

use crate::catalog::Kind;
use crate::object::{self, EventType};

type Text = Box<str>;

#[derive(Debug)]
pub struct Entry {
    /// `namespace/name`, or the name alone for what has no namespace.
    pub key: Text,
    pub uid: Text,
    pub revision: u64,
    pub labels: Box<[(Text, Text)]>,
    /// In the order of the resource row's `selectable`.
    pub fields: Box<[Text]>,
    /// The object as it is served.
    pub body: Bytes,
    /// The same as a protobuf message, made when the first client asks for it.
    message: OnceLock<Bytes>,
}

impl Entry {
    /// Parses a stored value; the frame that announces it shares its memory with the entry's body.
    pub fn decode(
        kind: &Kind,
        event_type: EventType,
        key: &str,
        stored: &[u8],
        revision: u64,
    ) -> Result<(Self, Bytes), serde_json::Error> {
        let parsed: Value = serde_json::from_slice(stored)?;
        let (frame, body) = object::frame(event_type, stored, revision);
        let metadata = &parsed["metadata"];
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let entry = Self {
            key: key.into(),
            uid: metadata["uid"].as_str().unwrap_or_default().into(),
            revision,
            labels: labels.map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into())).collect(),
            fields: kind.row.selectable.iter().map(|(_, get)| get(&parsed).into_boxed_str()).collect(),
            body,
            message: OnceLock::new(),
        };
        Ok((entry, frame))
    }

    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v)
    }

    /// The same object in the version of a kind that is not kept as such.
    pub fn in_version(self: &Arc<Self>, kind: &Kind) -> Arc<Self> {
        if kind.kept.is_none() {
            return self.clone();
        }
        Arc::new(Self {
            key: self.key.clone(),
            uid: self.uid.clone(),
            revision: self.revision,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            body: kind.served_bytes(&self.body),
            message: OnceLock::new(),
        })
    }

    /// The object as a protobuf message, of the kind that `node` models.
    pub fn message(&self, node: &Node) -> &Bytes {
        self.message.get_or_init(|| protobuf::encode(&self.value(), node).into())
    }

    /// The object, decoded anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).expect("an entry's body was parsed when the entry was made")
    }

    pub fn typed<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// One change, as watchers see it.
#[derive(Debug)]
pub struct Event {
    pub event_type: EventType,
    /// The object after the change; for a deletion its last state under the deletion's revision.
    pub entry: Arc<Entry>,
    pub previous: Option<Arc<Entry>>,
    pub revision: u64,
    /// What is written to watchers whose selector saw the object before and after.
    pub frame: Bytes,
    /// The same for watchers that read protobuf.
    message_frame: OnceLock<Bytes>,
}

impl Event {
    pub fn new(
        event_type: EventType,
        entry: Arc<Entry>,
        previous: Option<Arc<Entry>>,
        revision: u64,
        frame: Bytes,
    ) -> Self {
        Self { event_type, entry, previous, revision, frame, message_frame: OnceLock::new() }
    }

    pub fn message_frame(&self, kind: &Kind, node: &Node) -> &Bytes {
        self.message_frame.get_or_init(|| message_frame(self.event_type, &self.entry, kind, node))
    }

    pub fn deleted(previous: Arc<Entry>, revision: u64) -> Self {
        let body = object::at_revision(&previous.body, revision);
        let frame = object::reframe(EventType::Deleted, &body);
        let entry = Arc::new(Entry {
            key: previous.key.clone(),
            uid: previous.uid.clone(),
            revision,
            labels: previous.labels.clone(),
            fields: previous.fields.clone(),
            body,
            message: OnceLock::new(),
        });
        Self::new(EventType::Deleted, entry, Some(previous), revision, frame)
    }

    /// Bytes this event keeps alive.
    pub fn weight(&self) -> usize {
        self.frame.len() + self.previous.as_ref().map_or(0, |p| p.body.len())
    }
}

/// An object in a frame of a watch that is read as protobuf.
pub fn message_frame(event_type: EventType, entry: &Entry, kind: &Kind, node: &Node) -> Bytes {
    let row = &kind.row;
    let object = protobuf::wrap(&row.api_version(), &row.kind, entry.message(node));
    protobuf::watch_frame(event_type.name(), &object).into()
}

/// Orders entries by key, so that a set of them can be searched by it.
#[derive(Debug)]
pub struct ByKey(pub Arc<Entry>);

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}
