//! Pod templates of workloads.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::{Error, ErrorList, Path, json, pod_spec, selector, text};

/// A template by itself.
pub fn template(t: &PodTemplateSpec, path: &Path, errs: &mut ErrorList) {
    let metadata = t.metadata.clone().unwrap_or_default();
    let at = path.child("metadata");
    selector::labels(&metadata.labels, &at.child("labels"), errs);
    selector::annotations(&metadata.annotations, &at.child("annotations"), errs);
    let empty = PodSpec::default();
    let spec = t.spec.as_ref().unwrap_or(&empty);
    pod_spec::pod_spec(spec, &pod_spec::Options { is_pod: false }, &path.child("spec"), errs);
    if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
        let detail = "ephemeral containers not allowed in pod template";
        errs.push(Error::forbidden(&path.child("spec").child("ephemeralContainers"), detail));
    }
}

/// The labels must be what the owner selects, or it would make pods for ever.
pub fn selected(t: &PodTemplateSpec, selector: &LabelSelector, path: &Path, errs: &mut ErrorList) {
    let given = t.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let labels = given.cloned().unwrap_or_default();
    if selector::is_empty(selector) || !selector::matches(selector, &labels) {
        let at = path.child("metadata").child("labels");
        errs.push(Error::invalid(&at, given.map_or(Value::Null, json), "`selector` does not match template `labels`"));
    }
}

/// Pods of a workload that keeps them running restart always and have no deadline.
pub fn long_running(t: &PodTemplateSpec, kind: &str, path: &Path, errs: &mut ErrorList) {
    let Some(spec) = &t.spec else { return };
    let policy = text(&spec.restart_policy);
    if policy != "Always" {
        errs.push(Error::not_supported(&path.child("spec").child("restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let at = path.child("spec").child("activeDeadlineSeconds");
        errs.push(Error::forbidden(&at, &format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

/// The selector of a workload and what it says of the template. One that selects nothing in particular reads as one
/// that was left out, and then no template's labels can match it; one that is no selector is not held against them.
pub fn workload(s: &LabelSelector, t: &PodTemplateSpec, spec: &Path, errs: &mut ErrorList) {
    let path = spec.child("selector");
    if selector::is_empty(s) {
        errs.push(Error::required(&path, ""));
    }
    let mut wrong = ErrorList::new();
    selector::label_selector(s, &path, &mut wrong);
    if wrong.is_empty() {
        selected(t, s, &spec.child("template"), errs);
    } else {
        errs.extend(wrong);
        errs.push(Error::invalid(&path, json(s), "invalid label selector"));
    }
}
