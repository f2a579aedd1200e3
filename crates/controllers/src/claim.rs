//! Which objects belong to a controller: those it owns, those it adopts because its selector matches and nobody owns
//! them, minus those it releases because the selector no longer matches.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde_json::json;

use crate::meta::{Meta, controller_reference};
use crate::plan::{Guard, Op, PatchType, Target};
use crate::selector::Labels;

/// What a claim found: the objects to count, and the patches that make it so.
pub struct Claim<T> {
    pub mine: Vec<Arc<T>>,
    pub ops: Vec<Op>,
}

/// Claims `candidates` for `owner`. Objects being adopted already count, so that a controller never creates a
/// replacement for something it is about to own.
pub fn claim<O, T>(owner: &O, candidates: &[Arc<T>], matches: impl Fn(Option<&Labels>) -> bool) -> Claim<T>
where
    O: Resource + Metadata<Ty = ObjectMeta>,
    T: Resource + Metadata<Ty = ObjectMeta>,
{
    let mut found = Claim { mine: Vec::new(), ops: Vec::new() };
    for candidate in candidates {
        let matching = matches(candidate.meta().labels.as_ref());
        match candidate.controller() {
            Some(reference) if reference.uid != owner.uid() => {}
            Some(_) if matching => found.mine.push(candidate.clone()),
            Some(_) if !owner.deleting() => found.ops.push(release(owner, candidate.as_ref())),
            Some(_) => {}
            None if matching && !owner.deleting() && !candidate.deleting() => {
                found.ops.push(adopt(owner, candidate.as_ref()));
                found.mine.push(candidate.clone());
            }
            None => {}
        }
    }
    found
}

fn adopt<O, T>(owner: &O, object: &T) -> Op
where
    O: Resource + Metadata<Ty = ObjectMeta>,
    T: Resource + Metadata<Ty = ObjectMeta>,
{
    let patch = json!({"metadata": {"uid": object.meta().uid, "ownerReferences": [controller_reference(owner)]}});
    Op::patch(Target::of(object), PatchType::Strategic, patch)
        .guarded(Guard::Alive { target: Target::of(owner), uid: owner.uid().to_owned() })
}

fn release<O, T>(owner: &O, object: &T) -> Op
where
    O: Metadata<Ty = ObjectMeta>,
    T: Resource + Metadata<Ty = ObjectMeta>,
{
    let patch = json!({"metadata": {
        "uid": object.meta().uid,
        "ownerReferences": [{"$patch": "delete", "uid": owner.uid()}],
    }});
    Op::patch(Target::of(object), PatchType::Strategic, patch)
}
