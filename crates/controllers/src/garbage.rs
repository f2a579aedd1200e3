//! Garbage collection: the graph of who owns whom, and what follows from an owner's end.
//!
//! An object is deleted when the last of its owners is gone, never while one exists. `foregroundDeletion` makes an
//! owner wait for those dependents that block it; `orphan` lets dependents live on without it. The graph only knows
//! what the watches told it: before an owner counts as absent, somebody looks (see `OwnerState`), and every write
//! carries the uid.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::plan::{Kind, Op, PatchType, Plan, Propagation, Target, Verb};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

pub type Uid = String;

/// An object as far as ownership goes.
#[derive(Clone, Debug)]
pub struct Node {
    pub target: Target,
    pub uid: Uid,
    pub resource_version: Option<String>,
    pub owners: Vec<OwnerReference>,
    pub deleting: bool,
    pub finalizers: Vec<String>,
}

impl Node {
    pub fn new(kind: &Kind, meta: &ObjectMeta) -> Self {
        Self {
            target: Target {
                kind: kind.clone(),
                namespace: meta.namespace.clone(),
                name: meta.name.clone().unwrap_or_default(),
            },
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
        }
    }

    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|name| name == finalizer)
    }

    /// Being deleted in the foreground: waiting for its dependents.
    fn waits(&self) -> bool {
        self.deleting && self.has(FOREGROUND)
    }

    fn orphans(&self) -> bool {
        self.deleting && self.has(ORPHAN)
    }
}

/// What became of an owner a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    Present,
    /// Present, but being deleted in the foreground.
    Waiting,
    /// Looked for and not found, or found with another uid.
    Absent,
    /// Not in the graph: the caller must look before planning.
    Unknown,
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    pub fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// Takes in an object's present form; names the objects that deserve a look.
    pub fn observe(&mut self, node: Node) -> Vec<Uid> {
        let uid = node.uid.clone();
        let old = self.nodes.get(&uid);
        let worthwhile = !node.owners.is_empty() || node.waits() || node.orphans();
        let new_owners: HashSet<&str> = node.owners.iter().map(|owner| owner.uid.as_str()).collect();
        let dropped: Vec<Uid> = old
            .iter()
            .flat_map(|old| &old.owners)
            .filter(|owner| !new_owners.contains(owner.uid.as_str()))
            .map(|owner| owner.uid.clone())
            .collect();
        // A dependent that no longer blocks its owner may have been the last that did.
        let mut affected: Vec<Uid> =
            self.waiting_owners(&node.owners).into_iter().chain(dropped.iter().cloned()).collect();
        for owner in &dropped {
            self.unlink(owner, &uid);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        self.nodes.insert(uid.clone(), node);
        affected.retain(|owner| self.nodes.get(owner).is_some_and(Node::waits));
        if worthwhile {
            affected.push(uid);
        }
        affected
    }

    /// Takes out an object; its dependents and the owners that waited for it deserve a look.
    pub fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let orphans = self.dependents.get(uid).into_iter().flatten().cloned();
        orphans.chain(self.waiting_owners(&node.owners)).collect()
    }

    fn waiting_owners(&self, owners: &[OwnerReference]) -> Vec<Uid> {
        let waits = |owner: &&OwnerReference| self.nodes.get(&owner.uid).is_some_and(Node::waits);
        owners.iter().filter(waits).map(|owner| owner.uid.clone()).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(dependent);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// The state of an owner by what the graph knows. A namespaced owner must be in the dependent's namespace.
    pub fn owner_state(&self, dependent: &Node, owner: &OwnerReference) -> OwnerState {
        let Some(found) = self.nodes.get(&owner.uid) else { return OwnerState::Unknown };
        let here = found.target.namespace.is_none() || found.target.namespace == dependent.target.namespace;
        match here {
            false => OwnerState::Absent,
            true if found.waits() => OwnerState::Waiting,
            true => OwnerState::Present,
        }
    }

    /// What to do about one object. `state` answers for every owner, having looked where the graph did not know.
    /// Dependents named in the second place deserve a look, too.
    pub fn plan(&self, uid: &str, state: &dyn Fn(&OwnerReference) -> OwnerState) -> (Plan, Vec<Uid>) {
        let mut plan = Plan::default();
        let Some(node) = self.nodes.get(uid) else { return (plan, Vec::new()) };
        if node.orphans() {
            self.release_dependents(node, &mut plan);
            return (plan, Vec::new());
        }
        if node.waits() {
            let next = self.await_dependents(node, &mut plan);
            return (plan, next);
        }
        if !node.deleting && !node.owners.is_empty() {
            self.judge(node, state, &mut plan);
        }
        (plan, Vec::new())
    }

    /// Dependents first, then the finalizer: a crash in between repeats what is left.
    fn release_dependents(&self, node: &Node, plan: &mut Plan) {
        for dependent in self.dependents(&node.uid) {
            plan.push(drop_owners(dependent, &[node.uid.as_str()]));
        }
        plan.push(drop_finalizer(node, ORPHAN));
    }

    fn await_dependents(&self, node: &Node, plan: &mut Plan) -> Vec<Uid> {
        let blocks = |dependent: &&Node| {
            dependent.owners.iter().any(|owner| owner.uid == node.uid && owner.block_owner_deletion == Some(true))
        };
        if self.dependents(&node.uid).any(|dependent| blocks(&dependent)) {
            return self
                .dependents(&node.uid)
                .filter(|dependent| !dependent.deleting)
                .map(|dependent| dependent.uid.clone())
                .collect();
        }
        plan.push(drop_finalizer(node, FOREGROUND));
        self.dependents(&node.uid).filter(|dependent| !dependent.deleting).map(|node| node.uid.clone()).collect()
    }

    fn judge(&self, node: &Node, state: &dyn Fn(&OwnerReference) -> OwnerState, plan: &mut Plan) {
        let states: Vec<(&OwnerReference, OwnerState)> =
            node.owners.iter().map(|owner| (owner, state(owner))).collect();
        let has = |wanted| states.iter().any(|(_, state)| *state == wanted);
        if has(OwnerState::Unknown) {
            return;
        }
        if has(OwnerState::Present) {
            let gone: Vec<&str> = states
                .iter()
                .filter(|(_, state)| *state != OwnerState::Present)
                .map(|(owner, _)| owner.uid.as_str())
                .collect();
            if !gone.is_empty() {
                plan.push(drop_owners(node, &gone));
            }
            return;
        }
        let policy = if has(OwnerState::Waiting) && self.dependents(&node.uid).next().is_some() {
            // Two that wait for each other would wait for ever.
            if self.dependents(&node.uid).any(Node::waits) {
                plan.push(unblock(node));
            }
            Propagation::Foreground
        } else if node.has(ORPHAN) {
            Propagation::Orphan
        } else if node.has(FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        plan.push(delete(node, policy));
    }
}

fn op(node: &Node, verb: Verb) -> Op {
    Op {
        target: node.target.clone(),
        verb,
        announce: Default::default(),
        guard: None,
        exists_is_ok: false,
        stale_is_ok: false,
    }
}

fn delete(node: &Node, propagation: Propagation) -> Op {
    let verb = Verb::Delete {
        uid: Some(node.uid.clone()),
        resource_version: None,
        propagation: Some(propagation),
        grace_period_seconds: None,
    };
    op(node, verb)
}

/// Custom resources know no strategic merge, so lists are written whole, on the version they were read at.
fn merge(node: &Node, mut metadata: Value) -> Op {
    metadata["uid"] = json!(node.uid);
    metadata["resourceVersion"] = json!(node.resource_version);
    let verb = Verb::Patch { patch: json!({"metadata": metadata}), kind: PatchType::Merge, subresource: None };
    op(node, verb)
}

fn drop_owners(node: &Node, gone: &[&str]) -> Op {
    let left: Vec<&OwnerReference> = node.owners.iter().filter(|owner| !gone.contains(&owner.uid.as_str())).collect();
    merge(node, json!({"ownerReferences": left}))
}

fn unblock(node: &Node) -> Op {
    let owners: Vec<OwnerReference> = node
        .owners
        .iter()
        .cloned()
        .map(|owner| OwnerReference { block_owner_deletion: Some(false), ..owner })
        .collect();
    merge(node, json!({"ownerReferences": owners}))
}

fn drop_finalizer(node: &Node, finalizer: &str) -> Op {
    let left: Vec<&String> = node.finalizers.iter().filter(|name| *name != finalizer).collect();
    merge(node, json!({"finalizers": left}))
}
