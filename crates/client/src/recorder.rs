//! Events about objects. The same event seen again raises the count of the first instead of making another; events
//! are written in the background, in order, and dropped with a log line when more than a bounded number wait.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use tokio::sync::mpsc;

/// Events waiting to be written.
const BACKLOG: usize = 1000;
/// Distinct events remembered for counting; the memory is emptied when it is full.
const REMEMBERED: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Normal,
    Warning,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Same {
    about: (String, String, String, String, String),
    kind: Type,
    reason: String,
    message: String,
}

struct Wanted {
    about: ObjectReference,
    same: Same,
    at: Timestamp,
}

/// Cheap to clone. Needs a runtime when built.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Arc<Wanted>>,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.same.fmt(f)
    }
}

impl Recorder {
    /// `component` is the daemon's name; `host` the node it speaks for, when it runs on one.
    pub fn new(client: Client, component: &str, host: Option<&str>) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let source = EventSource { component: Some(component.to_owned()), host: host.map(ToOwned::to_owned) };
        tokio::spawn(Writer { client, source, seen: HashMap::new() }.run(receiver));
        Self { sender }
    }

    pub fn event(&self, about: &ObjectReference, kind: Type, reason: &str, message: impl Into<String>) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let same = Same {
            about: (
                text(&about.kind),
                text(&about.namespace),
                text(&about.name),
                text(&about.uid),
                text(&about.field_path),
            ),
            kind,
            reason: reason.to_owned(),
            message: message.into(),
        };
        let wanted = Wanted { about: about.clone(), same, at: Timestamp::now() };
        if self.sender.try_send(Arc::new(wanted)).is_err() {
            tracing::warn!(reason, "event dropped: too many wait to be written");
        }
    }
}

/// A reference to a typed object, for `Recorder::event`.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}

struct Writer {
    client: Client,
    source: EventSource,
    seen: HashMap<Same, (String, i32)>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Arc<Wanted>>) {
        while let Some(wanted) = receiver.recv().await {
            if let Err(error) = self.write(&wanted).await {
                tracing::debug!(%error, reason = wanted.same.reason, "event not written");
            }
        }
    }

    async fn write(&mut self, wanted: &Wanted) -> kube::Result<()> {
        let namespace = wanted.about.namespace.as_deref().filter(|ns| !ns.is_empty()).unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Some((name, count)) = self.seen.get_mut(&wanted.same) {
            *count += 1;
            let patch = serde_json::json!({ "count": *count, "lastTimestamp": Time(wanted.at) });
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                // Expired in the meantime: start anew below.
                Err(kube::Error::Api(status)) if status.code == 404 => drop(self.seen.remove(&wanted.same)),
                result => return result.map(drop),
            }
        }
        let event = self.event(wanted, namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        self.seen.insert(wanted.same.clone(), (name, 1));
        Ok(())
    }

    fn event(&self, wanted: &Wanted, namespace: &str) -> Event {
        let about = wanted.about.name.as_deref().unwrap_or("unknown");
        let mut event = Event {
            count: Some(1),
            first_timestamp: Some(Time(wanted.at)),
            last_timestamp: Some(Time(wanted.at)),
            involved_object: wanted.about.clone(),
            message: Some(wanted.same.message.clone()),
            reason: Some(wanted.same.reason.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            source: Some(self.source.clone()),
            type_: Some(wanted.same.kind.name().to_owned()),
            ..Event::default()
        };
        event.metadata.namespace = Some(namespace.to_owned());
        event.metadata.name = Some(format!("{about}.{:x}", wanted.at.as_nanosecond()));
        event
    }
}
