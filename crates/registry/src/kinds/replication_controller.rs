//! ReplicationController: the old ReplicaSet, with an equality selector that defaults to the template's labels.

use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::keep_other_half;
use crate::defaults::{fill, template};
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, maybe_non_negative, non_negative, selector, spec, status, template as check};
use crate::warnings;

pub struct Rules;

impl Strategy for Rules {
    type Object = ReplicationController;

    fn default(&self, object: &mut ReplicationController) {
        let spec = object.spec.get_or_insert_with(ReplicationControllerSpec::default);
        fill(&mut spec.replicas, 1);
        if let Some(t) = &mut spec.template {
            template::template(t);
        }
        if let Some(labels) = spec.template.as_ref().and_then(template::labels) {
            if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
                spec.selector = Some(labels.clone());
            }
            if object.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
                object.metadata.labels = Some(labels.clone());
            }
        }
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut ReplicationController, _ctx: &Context) {
        object.status = Some(Default::default());
    }

    fn prepare_update(&self, new: &mut ReplicationController, old: &ReplicationController, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &ReplicationController, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &ReplicationController, _old: &ReplicationController, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            let s = new.status.clone().unwrap_or_default();
            let counts = [
                (Some(s.replicas), "replicas"),
                (s.fully_labeled_replicas, "fullyLabeledReplicas"),
                (s.ready_replicas, "readyReplicas"),
                (s.available_replicas, "availableReplicas"),
            ];
            super::replica_set::counts(&counts, &status(), &mut errs);
        } else {
            validate(&new.spec.clone().unwrap_or_default(), &mut errs);
        }
        errs
    }

    fn warnings(&self, object: &ReplicationController) -> Vec<String> {
        let template = object.spec.as_ref().and_then(|s| s.template.as_ref());
        template.map(|t| warnings::template(t, &spec().child("template"))).unwrap_or_default()
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn validate(s: &ReplicationControllerSpec, errs: &mut ErrorList) {
    maybe_non_negative(s.min_ready_seconds, &spec().child("minReadySeconds"), errs);
    if s.selector.as_ref().is_none_or(|s| s.is_empty()) {
        errs.push(Error::required(&spec().child("selector"), ""));
    }
    selector::labels(&s.selector, &spec().child("selector"), errs);
    non_negative(s.replicas.unwrap_or(1), &spec().child("replicas"), errs);
    let path = spec().child("template");
    let Some(t) = &s.template else {
        errs.push(Error::required(&path, ""));
        return;
    };
    selects(t, s, errs);
    check::template(t, &path, errs);
    check::long_running(t, "ReplicationController", &path, errs);
}

fn selects(t: &PodTemplateSpec, s: &ReplicationControllerSpec, errs: &mut ErrorList) {
    if s.selector.as_ref().is_some_and(|s| !s.is_empty()) {
        let selector = LabelSelector { match_labels: s.selector.clone(), match_expressions: None };
        check::selected(t, &selector, &spec().child("template"), errs);
    }
}
