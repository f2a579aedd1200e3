//! The two ways of writing: an update owns what it changes, an apply owns what it says.

use std::fmt::Write as _;
use std::sync::LazyLock;

use api::ApiError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde_json::Value;

use super::compare::Comparison;
use super::managed::{Entry, Managed, Operation};
use super::path::{Element, show};
use super::set::FieldSet;
use super::typed::{Misfit, Walk};
use super::{merge, prune};
use crate::node::Node;

/// What nobody owns: it names the object, or the server keeps it.
static NEVER_OWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set: FieldSet = ["apiVersion", "kind", "metadata"].into_iter().collect();
    metadata.iter().for_each(|field| set.insert(&[Element::field("metadata"), Element::field(field)]));
    set
});

/// Who writes, in what way.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub manager: &'a str,
    pub subresource: &'a str,
    pub api_version: &'a str,
    /// RFC 3339 in whole seconds.
    pub now: &'a str,
    /// What the endpoint resets and so nobody can own through it.
    pub reset: &'a FieldSet,
    pub node: &'a Node,
}

impl Request<'_> {
    fn entry(&self, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: self.manager.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: None,
            fields,
        }
    }

    fn compare(&self, old: &Value, new: &Value) -> Comparison {
        Comparison::of(old, new, self.node).without(self.reset)
    }
}

/// Who owns what after `old` has become `new` by another write than an apply.
pub fn update(old: &Value, new: &Value, mut managed: Managed, request: Request<'_>) -> Managed {
    let compared = request.compare(old, new);
    let changed = compared.modified.union(&compared.added);
    for entry in &mut managed.0 {
        entry.fields.remove(&changed);
        entry.fields.remove(&compared.removed);
    }
    managed.drop_empty();
    let mut own = request.entry(Operation::Update, changed.difference(&NEVER_OWNED));
    if !own.fields.is_empty() {
        own.time = Some(request.now.to_owned());
        match managed.find(&own) {
            Some(entry) => {
                entry.fields.add(&own.fields);
                entry.time = own.time;
            }
            None => managed.0.push(own),
        }
    }
    managed.cap();
    managed
}

/// A field that another manager has with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As messages name it.
    pub manager: String,
    pub path: Vec<Element>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// What the configuration says does not fit its type.
    Misfits(Vec<Misfit>),
    Conflicts(Vec<Conflict>),
}

/// `live` with a configuration applied, and who owns what then; an object that does not exist yet is an empty one.
pub fn apply(
    live: &Value,
    config: &Value,
    mut managed: Managed,
    request: Request<'_>,
    force: bool,
) -> Result<(Value, Managed), ApplyError> {
    let walk = Walk::over(config, request.node);
    if !walk.misfits.is_empty() {
        return Err(ApplyError::Misfits(walk.misfits));
    }
    let mut fields = walk.set;
    fields.remove_below(request.reset);
    let mut own = request.entry(Operation::Apply, fields);
    let last = managed.find(&own).map(|entry| (entry.fields.clone(), entry.time.clone()));
    managed.0.retain(|entry| !entry.is_same_manager(&own));

    let merged = merge::merge(live, config, request.node);
    let object = match &last {
        Some((fields, _)) => take_back(merged, fields, &own.fields, &managed, request.node),
        None => merged,
    };
    let compared = request.compare(live, &object);
    let changed = compared.modified.clone().union(&compared.added);
    if !force {
        refuse_conflicts(&managed, &changed)?;
    }
    for entry in &mut managed.0 {
        entry.fields.remove(&changed);
        entry.fields.remove(&compared.removed);
    }
    own.fields.remove(&NEVER_OWNED);
    own.time = match last {
        Some((fields, time)) if compared.is_same() && fields == own.fields => time,
        _ => Some(request.now.to_owned()),
    };
    managed.0.push(own);
    managed.drop_empty();
    Ok((object, managed))
}

fn refuse_conflicts(managed: &Managed, changed: &FieldSet) -> Result<(), ApplyError> {
    let of_entry = |entry: &Entry| {
        let manager = entry.to_string();
        let paths = entry.fields.intersection(changed).paths();
        paths.into_iter().map(move |path| Conflict { manager: manager.clone(), path }).collect::<Vec<_>>()
    };
    let mut conflicts: Vec<Conflict> = managed.0.iter().flat_map(of_entry).collect();
    conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
    if conflicts.is_empty() { Ok(()) } else { Err(ApplyError::Conflicts(conflicts)) }
}

/// What an object says that another still has as it is; `None` when it says what its type has not.
pub fn unchanged(said: &Value, live: &Value, node: &Node) -> Option<FieldSet> {
    let walk = Walk::over(said, node);
    let compared = Comparison::of(said, live, node);
    let kept = walk.set.difference(&compared.modified).difference(&compared.added).difference(&compared.removed);
    walk.misfits.is_empty().then_some(kept)
}

/// Takes away what the manager applied last and no longer does, unless somebody else owns it.
fn take_back(merged: Value, last: &FieldSet, now: &FieldSet, others: &Managed, node: &Node) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &FieldSet| prune::with_named_fields(set, node);
    let said_by = |object: &Value| named(&Walk::over(object, node).set);
    let mut owned = now.clone();
    others.0.iter().for_each(|entry| owned.add(&entry.fields));
    let (last, owned, whole) = (named(last), named(&owned), said_by(&merged));

    let bare = said_by(&prune::remove(&merged, &last, node));
    let unowned = whole.clone().difference(&bare.union(&owned));
    let left = said_by(&prune::remove(&merged, &unowned, node));
    // Only what was applied goes; what hung on it and nobody applied stays.
    let goes = whole.difference(&left).intersection(&last);
    prune::remove(&merged, &goes, node)
}

impl ApplyError {
    /// In upstream's words; `object` is `namespace/name; apps/v1, Kind=Deployment`.
    pub fn into_api_error(self, object: &str) -> ApiError {
        match self {
            Self::Misfits(misfits) => {
                let words = match &misfits[..] {
                    [one] => one.to_string(),
                    many => many.iter().fold("errors:".to_owned(), |mut words, misfit| {
                        let _ = write!(words, "\n  {misfit}");
                        words
                    }),
                };
                // Upstream has no better code for it.
                ApiError::new(500, "", format!("failed to create typed patch object ({object}): {words}"))
            }
            Self::Conflicts(conflicts) => conflict(&conflicts),
        }
    }
}

fn conflict(conflicts: &[Conflict]) -> ApiError {
    let cause = |conflict: &Conflict| StatusCause {
        reason: Some("FieldManagerConflict".to_owned()),
        message: Some(format!("conflict with {}", conflict.manager)),
        field: Some(show(&conflict.path)),
    };
    let words = match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, show(&one.path)),
        many => {
            let mut words = format!("Apply failed with {} conflicts: ", many.len());
            for (at, conflict) in many.iter().enumerate() {
                let (first, again) = (at == 0, at > 0 && many[at - 1].manager == conflict.manager);
                if !again {
                    let _ = write!(words, "{}conflicts with {}:", if first { "" } else { "\n" }, conflict.manager);
                }
                let _ = write!(words, "\n- {}", show(&conflict.path));
            }
            words
        }
    };
    ApiError::new(409, "Conflict", words).with_causes(conflicts.iter().map(cause).collect())
}
