//! Who owns which field, on the way of a write: `metadata.managedFields`.

use std::borrow::Cow;

use api::table::{Resource, Sub};
use api::{ApiError, meta};
use schema::apply::{self, FieldSet, Managed};
use schema::{Gvk, Node};
use serde_json::{Map, Value, json};

use super::options::MAX_MANAGER;
use super::write::Writer;
use crate::catalog::Kind;
use crate::http::request::Request;
use crate::state::Api;

/// For who does not say who it is.
const UNKNOWN: &str = "unknown";
/// What the server does on its own account.
const SERVER: &str = "kube-apiserver";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations of an object together are not larger.
const MAX_LAST_APPLIED: usize = 256 << 10;

/// What the endpoints of a kind reset, and nobody can own through them.
#[derive(Clone, Debug, Default)]
pub struct Resets {
    main: FieldSet,
    status: FieldSet,
    none: FieldSet,
}

impl Resets {
    pub fn of(row: &Resource) -> Self {
        let has_status = row.subresources.contains(&Sub::Status);
        let main = if has_status { &["status"][..] } else { &[] };
        let status = match &*row.kind {
            "Pod" => &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"][..],
            "Deployment" => &["spec", "metadata.labels"],
            _ => &["spec"],
        };
        Self {
            main: main.iter().copied().collect(),
            status: status.iter().copied().collect(),
            none: FieldSet::default(),
        }
    }

    fn at(&self, subresource: &str) -> &FieldSet {
        match subresource {
            "" => &self.main,
            "status" => &self.status,
            _ => &self.none,
        }
    }
}

/// The manager of a request: what it says, or the first word of its user agent.
pub fn manager(request: &Request) -> Cow<'_, str> {
    if let Some(given) = request.query.filled("fieldManager") {
        return given.into();
    }
    agent(request.header("user-agent")).into()
}

fn agent(header: &str) -> String {
    let agent = header.split('/').next().unwrap_or_default();
    let mut name = String::new();
    for letter in agent.chars().filter(|c| !c.is_control()) {
        if name.len() + letter.len_utf8() > MAX_MANAGER {
            break;
        }
        name.push(letter);
    }
    if name.is_empty() { UNKNOWN.to_owned() } else { name }
}

/// One write in the eyes of ownership.
struct Writing<'a> {
    manager: Cow<'a, str>,
    api_version: String,
    now: String,
    subresource: &'a str,
    reset: &'a FieldSet,
    node: &'a Node,
}

impl<'a> Writing<'a> {
    /// `None`: a kind without a schema has no owners.
    fn new(api: &'a Api, kind: &'a Kind, writer: &Writer<'a>, subresource: &'a str) -> Option<Self> {
        let row = &kind.row;
        Some(Self {
            manager: writer.request.map_or(SERVER.into(), manager),
            api_version: row.api_version(),
            now: meta::format_time(writer.now),
            subresource,
            reset: kind.resets.at(subresource),
            node: api.catalog.schemas.kind(&row.group, &row.version, &row.kind)?,
        })
    }

    fn request(&self) -> apply::Request<'_> {
        apply::Request {
            manager: &self.manager,
            subresource: self.subresource,
            api_version: &self.api_version,
            now: &self.now,
            reset: self.reset,
            node: self.node,
        }
    }
}

/// A new object is its creator's.
pub fn created(api: &Api, kind: &Kind, writer: &Writer<'_>, object: &mut Value) {
    updated(api, kind, writer, "", &json!({}), object);
}

/// What a write changes is its writer's.
pub fn updated(api: &Api, kind: &Kind, writer: &Writer<'_>, subresource: &str, old: &Value, new: &mut Value) {
    let managed = given(old, new, subresource);
    let metadata = meta::metadata_mut(new);
    metadata.remove("managedFields");
    let Some(writing) = Writing::new(api, kind, writer, subresource) else { return };
    apply::update(old, new, managed, writing.request()).write(new);
}

/// The owners as the client sent them, which may change them, or as they are.
fn given(old: &Value, new: &Value, subresource: &str) -> Managed {
    let before = || Managed::of(old).unwrap_or_default();
    if !subresource.is_empty() {
        return before();
    }
    let sent = new.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is_reset = |list: &Vec<Value>| match &list[..] {
        [] => true,
        [one] => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    };
    if sent.is_some_and(is_reset) {
        return Managed::default();
    }
    // A client that knows nothing of owners, or writes nonsense, does not take them away.
    Managed::of(new).ok().filter(|managed| !managed.0.is_empty()).unwrap_or_else(before)
}

/// An object with a configuration applied; `live` is absent when there is none yet.
pub fn applied(
    api: &Api,
    kind: &Kind,
    writer: &Writer<'_>,
    subresource: &str,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApiError> {
    let row = &kind.row;
    let own = Gvk::new(&row.group, &row.version, &row.kind);
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    let claimed = Gvk::from_type(text("apiVersion"), text("kind"));
    if claimed != own {
        let (version, kind) = (claimed.api_version(), claimed.kind);
        return Err(ApiError::bad_request(format!("invalid object type: {version}, Kind={kind}")));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|list| !list.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let writing = Writing::new(api, kind, writer, subresource)
        .ok_or_else(|| ApiError::internal(format!("{} has no schema", row.kind)))?;
    let empty = json!({});
    let live = live.unwrap_or(&empty);
    let managed = Managed::of(live)
        .map_err(|error| ApiError::new(500, "", format!("failed to decode managed fields: {error}")))?;
    let request = writing.request();
    let mut outcome = apply::apply(live, config, managed.clone(), request, force);
    let migrates = &*writing.manager == "kubectl";
    if let (Err(apply::ApplyError::Conflicts(conflicts)), true) = (&outcome, migrates) {
        outcome = match unsettled(live, conflicts, request) {
            Some(conflicts) if conflicts.is_empty() => apply::apply(live, config, managed, request, true),
            Some(conflicts) => Err(apply::ApplyError::Conflicts(conflicts)),
            None => outcome,
        };
    }
    let name =
        format!("{}/{}; {}, Kind={}", meta::namespace(config), meta::name(config), writing.api_version, row.kind);
    let (mut object, managed) = outcome.map_err(|error| error.into_api_error(&name))?;
    if migrates {
        note_last_applied(&mut object, config);
    }
    meta::metadata_mut(&mut object);
    managed.write(&mut object);
    Ok(object)
}

/// What is left of conflicts when those count as settled that client-side apply made; `None` without any.
fn unsettled(live: &Value, conflicts: &[apply::Conflict], request: apply::Request<'_>) -> Option<Vec<apply::Conflict>> {
    let text = meta::annotation(live, LAST_APPLIED).filter(|text| !text.is_empty())?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"] != request.api_version {
        return None;
    }
    let kept = apply::unchanged(&last, live, request.node)?;
    Some(conflicts.iter().filter(|conflict| !kept.has(&conflict.path)).cloned().collect())
}

/// Who applied on the client's side before finds what it goes by up to date.
fn note_last_applied(object: &mut Value, config: &Value) {
    if meta::annotation(object, LAST_APPLIED).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let text = config.to_string();
    let text = if text.len() > MAX_LAST_APPLIED { String::new() } else { text };
    object["metadata"]["annotations"][LAST_APPLIED] = text.into();
}

/// A write that changes nothing but when owners wrote last changes nothing.
pub fn settle_times(old: &Value, new: &mut Value) {
    let without = |object: &Value| {
        let mut object = object.clone();
        for entry in object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("time");
            }
        }
        object
    };
    if old.pointer("/metadata/managedFields") != new.pointer("/metadata/managedFields") && without(old) == without(new)
    {
        new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_by_their_agents() {
        let check = |header: &str, expected: &str| assert_eq!(agent(header), expected, "{header}");
        check("kubectl/v1.36.0 (linux/amd64) kubernetes/abc", "kubectl");
        check("kubelet", "kubelet");
        check("", UNKNOWN);
        check("a\tb/1", "ab");
        check(&"é".repeat(100), &"é".repeat(64));
    }

    #[test]
    fn only_times_that_tell_something_change() {
        let owners = |time: &str| json!({"metadata": {"managedFields": [{"manager": "a", "time": time}]}, "data": 1});
        let mut new = owners("2");
        settle_times(&owners("1"), &mut new);
        assert_eq!(new, owners("1"));
        let mut changed = owners("2");
        changed["data"] = 2.into();
        let before = changed.clone();
        settle_times(&owners("1"), &mut changed);
        assert_eq!(changed, before);
    }
}
