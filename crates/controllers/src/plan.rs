//! What a controller wants done: writes with their preconditions, events, and when to look again.
//!
//! A plan is data. The executor of the controller manager is the only code that turns it into requests; it runs
//! neighbouring creates in slow-start batches (1, 2, 4, ...), neighbouring deletes side by side, everything else in
//! order, and stops at the first group that fails. Every write carries a precondition: a replace its
//! `resourceVersion`, a patch the `uid` (and where it matters the `resourceVersion`), a delete the `uid`.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde_json::{Value, json};

/// Group, version and names of a kind: enough to address it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
}

impl Kind {
    pub fn of<K: Resource>() -> Self {
        Self {
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            kind: K::KIND.into(),
            plural: K::URL_PATH_SEGMENT.into(),
        }
    }

    /// `v1` or `apps/v1`
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Where a write goes. Without a namespace the kind is cluster-scoped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub kind: Kind,
    pub namespace: Option<String>,
    /// Empty for a create with `generateName`.
    pub name: String,
}

impl Target {
    pub fn of<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        let meta = object.metadata();
        Self { kind: Kind::of::<K>(), namespace: meta.namespace.clone(), name: meta.name.clone().unwrap_or_default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Merge,
    Strategic,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    Create(Value),
    /// PUT; the object carries the `resourceVersion` it was planned from.
    Update {
        object: Value,
        subresource: Option<&'static str>,
    },
    Patch {
        patch: Value,
        kind: PatchType,
        subresource: Option<&'static str>,
    },
    Delete {
        uid: Option<String>,
        resource_version: Option<String>,
        propagation: Option<Propagation>,
        grace_period_seconds: Option<i64>,
    },
}

/// What must be so when an object is read live before the write, because the cache may lag behind.
#[derive(Clone, Debug, PartialEq)]
pub enum Guard {
    /// It exists, with this uid, and is not being deleted. Adopting for an owner that went away would resurrect its
    /// claim.
    Alive { target: Target, uid: String },
    /// Nothing by that name exists; with a uid: not that very one. Cleaning up after an object that the cache has not
    /// seen yet would destroy what has just been made.
    Absent { target: Target, uid: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub regarding: ObjectReference,
    pub kind: EventType,
    pub reason: Cow<'static, str>,
    pub message: String,
}

/// Events that depend on how a write went. `{name}` is the name of the object written, `{error}` what went wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announce {
    pub success: Option<Event>,
    pub failure: Option<Event>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    pub target: Target,
    pub verb: Verb,
    pub announce: Announce,
    pub guard: Option<Guard>,
    /// A create that finds the object already there counts as done.
    pub exists_is_ok: bool,
    /// Losing to a newer version of the object does not hold up the rest of the plan.
    pub stale_is_ok: bool,
}

impl Op {
    fn new(target: Target, verb: Verb) -> Self {
        Self { target, verb, announce: Announce::default(), guard: None, exists_is_ok: false, stale_is_ok: false }
    }

    pub fn create<K: Resource + Metadata<Ty = ObjectMeta> + Serialize>(object: &K) -> Self {
        Self::new(Target::of(object), Verb::Create(to_value(object)))
    }

    pub fn update<K: Resource + Metadata<Ty = ObjectMeta> + Serialize>(object: &K) -> Self {
        Self::new(Target::of(object), Verb::Update { object: to_value(object), subresource: None })
    }

    pub fn update_status<K: Resource + Metadata<Ty = ObjectMeta> + Serialize>(object: &K) -> Self {
        Self::update_sub(object, "status")
    }

    pub fn update_sub<K: Resource + Metadata<Ty = ObjectMeta> + Serialize>(object: &K, sub: &'static str) -> Self {
        Self::new(Target::of(object), Verb::Update { object: to_value(object), subresource: Some(sub) })
    }

    pub fn patch(target: Target, kind: PatchType, patch: Value) -> Self {
        Self::new(target, Verb::Patch { patch, kind, subresource: None })
    }

    pub fn patch_status(target: Target, kind: PatchType, patch: Value) -> Self {
        Self::new(target, Verb::Patch { patch, kind, subresource: Some("status") })
    }

    pub fn delete<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        let uid = object.metadata().uid.clone();
        Self::new(
            Target::of(object),
            Verb::Delete { uid, resource_version: None, propagation: None, grace_period_seconds: None },
        )
    }

    pub fn propagation(mut self, policy: Propagation) -> Self {
        if let Verb::Delete { propagation, .. } = &mut self.verb {
            *propagation = Some(policy);
        }
        self
    }

    pub fn grace(mut self, seconds: i64) -> Self {
        if let Verb::Delete { grace_period_seconds, .. } = &mut self.verb {
            *grace_period_seconds = Some(seconds);
        }
        self
    }

    pub fn on_success(mut self, event: Event) -> Self {
        self.announce.success = Some(event);
        self
    }

    pub fn on_failure(mut self, event: Event) -> Self {
        self.announce.failure = Some(event);
        self
    }

    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    pub fn or_exists(mut self) -> Self {
        self.exists_is_ok = true;
        self
    }

    pub fn or_stale(mut self) -> Self {
        self.stale_is_ok = true;
        self
    }

    /// Takes finalizers away with the uid and resourceVersion the decision was made on.
    pub fn set_finalizers<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K, finalizers: &[String]) -> Self {
        let meta = object.metadata();
        let patch = json!({"metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers,
        }});
        Self::patch(Target::of(object), PatchType::Merge, patch)
    }

    pub fn is_create(&self) -> bool {
        matches!(self.verb, Verb::Create(_))
    }

    pub fn is_delete(&self) -> bool {
        matches!(self.verb, Verb::Delete { .. })
    }
}

fn to_value<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("a Kubernetes object has string keys only")
}

/// What went wrong the last time the plan of an object was executed; the next plan turns it into a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub ops: Vec<Op>,
    pub events: Vec<Event>,
    /// When the passage of time alone would change the answer.
    pub requeue_after: Option<Duration>,
}

impl Plan {
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.events.is_empty() && self.requeue_after.is_none()
    }

    /// Looks again after the earliest of all that was asked for.
    pub fn requeue(&mut self, after: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(after, |old| old.min(after)));
    }

    pub fn requeue_at(&mut self, at: jiff::Timestamp, now: jiff::Timestamp) {
        self.requeue(Duration::try_from(at.duration_since(now)).unwrap_or_default());
    }

    pub fn event(&mut self, regarding: ObjectReference, kind: EventType, reason: &'static str, message: String) {
        self.events.push(Event { regarding, kind, reason: reason.into(), message });
    }
}

/// The reference events are about.
pub fn reference<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

pub fn normal(regarding: &ObjectReference, reason: &'static str, message: impl Into<String>) -> Event {
    Event { regarding: regarding.clone(), kind: EventType::Normal, reason: reason.into(), message: message.into() }
}

pub fn warning(regarding: &ObjectReference, reason: &'static str, message: impl Into<String>) -> Event {
    Event { regarding: regarding.clone(), kind: EventType::Warning, reason: reason.into(), message: message.into() }
}
