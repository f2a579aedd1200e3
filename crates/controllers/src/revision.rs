//! ControllerRevisions: the history of templates that DaemonSets and StatefulSets keep.
//!
//! A revision's data is a patch of the template, so that `kubectl rollout undo` can apply it as it is. Equal data
//! means the same revision: going back to an earlier template gives the earlier revision the highest number.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use k8s_openapi::{Metadata, Resource};
use serde_json::{Value, json};

use crate::meta::{Meta, controller_reference};
use crate::plan::Op;
use crate::selector::Labels;
use crate::{hash, template};

pub const HASH_LABEL: &str = "controller-revision-hash";

/// The revision that holds a template; the op, if any, puts it in place.
pub struct Ensured {
    pub revision: ControllerRevision,
    pub op: Option<Op>,
}

pub fn template_data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("a template has string keys only");
    template["$patch"] = Value::from("replace");
    json!({"spec": {"template": template}})
}

/// The template a revision stands for.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Finds or makes the revision of `template` and sees to it that it has the highest number. `None` when the name is
/// taken by something else: the caller raises the collision count and tries again.
pub fn ensure<O>(
    owner: &O,
    template: &PodTemplateSpec,
    history: &[Arc<ControllerRevision>],
    collision_count: Option<i32>,
    name_taken: &dyn Fn(&str) -> bool,
) -> Option<Ensured>
where
    O: Resource + Metadata<Ty = ObjectMeta>,
{
    let data = template_data(template);
    let newest = history.iter().map(|revision| revision.revision).max().unwrap_or_default();
    let wanted = template::canonical(data.clone());
    let equal = history
        .iter()
        .filter(|revision| revision.data.as_ref().is_some_and(|stored| same(&stored.0, &data, &wanted)))
        .max_by_key(|revision| revision.revision);
    if let Some(found) = equal {
        let mut revision = (**found).clone();
        let op = (revision.revision < newest).then(|| {
            revision.revision = newest + 1;
            Op::update(&revision)
        });
        return Some(Ensured { revision, op });
    }
    let revision = fresh(owner, template, data, newest + 1, collision_count);
    if name_taken(revision.name()) {
        return None;
    }
    let op = Some(Op::create(&revision));
    Some(Ensured { revision, op })
}

fn same(stored: &Value, data: &Value, canonical: &Value) -> bool {
    stored == data || template::canonical(stored.clone()) == *canonical
}

fn fresh<O>(
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    number: i64,
    collision_count: Option<i32>,
) -> ControllerRevision
where
    O: Resource + Metadata<Ty = ObjectMeta>,
{
    let hash = hash::compute(&data, collision_count);
    let mut labels: Labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name())),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

/// Deletes the oldest revisions beyond the limit, sparing the `live` ones.
pub fn clean_up(
    history: &[Arc<ControllerRevision>],
    live: &dyn Fn(&ControllerRevision) -> bool,
    limit: i32,
) -> Vec<Op> {
    let mut dead: Vec<&Arc<ControllerRevision>> = history.iter().filter(|revision| !live(revision)).collect();
    dead.sort_by_key(|revision| revision.revision);
    let surplus = dead.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    dead.into_iter().take(surplus).map(|revision| Op::delete(revision.as_ref())).collect()
}

/// The value pods carry in their revision label.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    revision.label(HASH_LABEL).unwrap_or_default()
}
