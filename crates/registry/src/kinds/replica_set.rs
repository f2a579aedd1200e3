//! ReplicaSet.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};

use super::keep_other_half;
use crate::defaults::{fill, template};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, immutable, maybe_non_negative, spec, status, template as check,
};
use crate::warnings;

pub struct Rules;

impl Strategy for Rules {
    type Object = ReplicaSet;

    fn default(&self, object: &mut ReplicaSet) {
        let spec = object.spec.get_or_insert_with(ReplicaSetSpec::default);
        fill(&mut spec.replicas, 1);
        template::template(spec.template.get_or_insert_default());
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut ReplicaSet, _ctx: &Context) {
        object.status = Some(ReplicaSetStatus::default());
    }

    fn prepare_update(&self, new: &mut ReplicaSet, old: &ReplicaSet, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &ReplicaSet, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &ReplicaSet, old: &ReplicaSet, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            let s = new.status.clone().unwrap_or_default();
            let all = [
                (Some(s.replicas), "replicas"),
                (s.fully_labeled_replicas, "fullyLabeledReplicas"),
                (s.ready_replicas, "readyReplicas"),
                (s.available_replicas, "availableReplicas"),
            ];
            counts(&all, &status(), &mut errs);
            return errs;
        }
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate(&new, &mut errs);
        immutable(&new.selector, &old.selector, &spec().child("selector"), &mut errs);
        errs
    }

    fn warnings(&self, object: &ReplicaSet) -> Vec<String> {
        let template = object.spec.as_ref().and_then(|s| s.template.as_ref());
        template.map(|t| warnings::template(t, &spec().child("template"))).unwrap_or_default()
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn validate(s: &ReplicaSetSpec, errs: &mut ErrorList) {
    maybe_non_negative(s.replicas, &spec().child("replicas"), errs);
    maybe_non_negative(s.min_ready_seconds, &spec().child("minReadySeconds"), errs);
    let (path, t) = (spec().child("template"), s.template.clone().unwrap_or_default());
    check::workload(&s.selector, &t, &spec(), errs);
    check::template(&t, &path, errs);
    check::long_running(&t, "ReplicaSet", &path, errs);
}

/// The counts of a status: replicas first, then what is part of them, ready before available last.
pub(super) fn counts(all: &[(Option<i32>, &str); 4], path: &Path, errs: &mut ErrorList) {
    for (count, name) in all {
        maybe_non_negative(*count, &path.child(name), errs);
    }
    let replicas = all[0].0.unwrap_or(0);
    for (count, name) in &all[1..] {
        let count = count.unwrap_or(0);
        if count > replicas {
            errs.push(Error::invalid(&path.child(name), count, "cannot be greater than status.replicas"));
        }
    }
    let (ready, available) = (all[2].0.unwrap_or(0), all[3].0.unwrap_or(0));
    if available > ready {
        errs.push(Error::invalid(&path.child("availableReplicas"), available, "cannot be greater than readyReplicas"));
    }
}
