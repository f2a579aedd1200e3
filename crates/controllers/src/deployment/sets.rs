//! Finding, numbering, creating and cleaning up the ReplicaSets of a Deployment.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::Rollout;
use crate::meta::{Meta, controller_reference};
use crate::plan::{Op, PatchType, Target, reference, warning};
use crate::{hash, template};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Annotations that belong to one object and are never copied to another.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Past revision numbers kept on a set that was rolled back to; older ones are cut off at the front.
const MAX_HISTORY_CHARS: usize = 2000;

pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Available pods the set will keep. Its status lags behind its spec: of three available pods in a set that was just
/// told to keep two, one is already spoken for.
pub fn available(set: &ReplicaSet) -> i32 {
    let reported = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    reported.min(replicas(set))
}

fn revision(set: &impl Meta) -> i64 {
    set.annotation(REVISION).and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The oldest set whose template equals the Deployment's, and all others.
pub fn split(deployment: &Deployment, mine: &[Arc<ReplicaSet>]) -> (Option<ReplicaSet>, Vec<ReplicaSet>) {
    let mut sets: Vec<&Arc<ReplicaSet>> = mine.iter().collect();
    sets.sort_by(|a, b| a.created().cmp(&b.created()).then_with(|| a.name().cmp(b.name())));
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let new = sets.iter().position(|set| same_template(template, set.spec.as_ref().and_then(|s| s.template.as_ref())));
    let old = sets.iter().enumerate().filter(|(index, _)| Some(*index) != new).map(|(_, set)| (***set).clone());
    (new.map(|index| (**sets[index]).clone()), old.collect())
}

fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    a.zip(b).is_some_and(|(a, b)| template::same(&without_hash(a), &without_hash(b)))
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

impl Rollout<'_> {
    /// Gives the new set the highest revision, keeps its annotations equal to the Deployment's, and shows the
    /// revision on the Deployment.
    pub(super) fn number_sets(&mut self) {
        let next = self.old.iter().map(revision).max().unwrap_or_default() + 1;
        let Some(new) = &mut self.new else { return };
        let spec = self.deployment.spec.clone().unwrap_or_default();
        let before = new.clone();
        annotate(new, self.deployment, next);
        if let Some(new_spec) = &mut new.spec
            && new_spec.min_ready_seconds.unwrap_or_default() != spec.min_ready_seconds.unwrap_or_default()
        {
            new_spec.min_ready_seconds = spec.min_ready_seconds;
        }
        let (changed, number) = (*new != before, new.annotation(REVISION).map(str::to_owned));
        let name = new.name().to_owned();
        if changed {
            self.update_new_set();
        }
        self.show_revision(number);
        if self.has_deadline() && self.status_condition(super::status::PROGRESSING).is_none() {
            self.progress("True", "NewReplicaSetFound", format!("Found new replica set \"{name}\""));
        }
    }

    fn update_new_set(&mut self) {
        if let Some(new) = &self.new {
            self.plan.push(Op::update(new));
        }
    }

    fn show_revision(&mut self, number: Option<String>) {
        if let Some(number) = number
            && self.deployment.annotation(REVISION) != Some(number.as_str())
        {
            let meta = self.deployment.meta();
            let patch = json!({"metadata": {"uid": meta.uid, "annotations": {REVISION: number}}});
            self.plan.push(Op::patch(Target::of(self.deployment), PatchType::Merge, patch));
        }
    }

    /// Creates the set of the current template with as many replicas as the limits allow right away. A name that is
    /// taken by a set with another template raises the collision count, which changes the hash.
    pub(super) fn create_new(&mut self, name_taken: &dyn Fn(&str) -> bool) {
        let next = self.old.iter().map(revision).max().unwrap_or_default() + 1;
        let mut set = fresh_set(self.deployment, self.status.collision_count);
        if name_taken(set.name()) {
            self.status.collision_count = Some(self.status.collision_count.unwrap_or_default() + 1);
            return;
        }
        let count = self.new_set_replicas(0);
        set.spec.get_or_insert_default().replicas = Some(count);
        annotate(&mut set, self.deployment, next);
        mark_scale(&mut set, self.replicas, self.replicas + self.max_surge);
        let failed = warning(&reference(self.deployment), "ReplicaSetCreateError", failure_message(set.name()));
        let mut create = Op::create(&set).on_failure(failed);
        if count > 0 {
            let message = format!("Scaled up replica set {} from 0 to {count}", set.name());
            create = create.on_success(self.event("ScalingReplicaSet", message));
        }
        self.plan.push(create);
        self.show_revision(Some(next.to_string()));
        if self.has_deadline() {
            match self.failure.map(|failure| failure.message.clone()) {
                Some(message) => self.progress("False", "ReplicaSetCreateError", message),
                None => {
                    let message = format!("Created new replica set \"{}\"", set.name());
                    self.progress("True", "NewReplicaSetCreated", message);
                }
            }
        }
    }

    /// Deletes the oldest empty sets beyond the history limit.
    pub(super) fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return };
        let mut old: Vec<&ReplicaSet> = self.old.iter().filter(|set| !set.deleting()).collect();
        if old.len() <= limit {
            return;
        }
        old.sort_by(|a, b| revision(*a).cmp(&revision(*b)).then_with(|| a.created().cmp(&b.created())));
        let surplus = old.len() - limit;
        let deletions = old.into_iter().take(surplus).filter(|set| is_settled_and_empty(set)).map(Op::delete);
        let deletions: Vec<Op> = deletions.collect();
        self.plan.ops.extend(deletions);
    }
}

fn failure_message(name: &str) -> String {
    format!("Failed to create new replica set \"{name}\": {{error}}")
}

fn is_settled_and_empty(set: &ReplicaSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.replicas == 0 && replicas(set) == 0 && set.generation() <= status.observed_generation.unwrap_or_default()
}

fn fresh_set(deployment: &Deployment, collision_count: Option<i32>) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let hash = hash::compute(&spec.template, collision_count);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(POD_TEMPLATE_HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(POD_TEMPLATE_HASH.into(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name())),
            namespace: deployment.meta().namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Copies the Deployment's annotations and, when its number grows, remembers the set's earlier number.
fn annotate(set: &mut ReplicaSet, deployment: &Deployment, next: i64) {
    let old_revision = revision(set);
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.meta().annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    if old_revision < next {
        if let Some(number) = annotations.get(REVISION).cloned() {
            remember(annotations, &number);
        }
        annotations.insert(REVISION.into(), next.to_string());
    }
}

fn remember(annotations: &mut BTreeMap<String, String>, number: &str) {
    let history = annotations
        .get(REVISION_HISTORY)
        .map_or_else(Vec::new, |text| text.split(',').filter(|entry| !entry.is_empty()).map(str::to_owned).collect());
    let mut history: Vec<String> = history.into_iter().chain([number.to_owned()]).collect();
    while history.join(",").len() > MAX_HISTORY_CHARS {
        history.remove(0);
    }
    annotations.insert(REVISION_HISTORY.into(), history.join(","));
}

/// Notes what the Deployment wanted when the set was last scaled; a difference means the Deployment was scaled.
pub fn mark_scale(set: &mut ReplicaSet, desired: i32, max: i32) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let desired = annotations.insert(DESIRED_REPLICAS.into(), desired.to_string()) != Some(desired.to_string());
    let max = annotations.insert(MAX_REPLICAS.into(), max.to_string()) != Some(max.to_string());
    desired || max
}
