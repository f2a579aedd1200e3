//! Pod. Its spec is all but immutable once written; its status belongs to the kubelet.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};

use crate::defaults::{fill_text, pod_spec as defaults};
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, pod_spec, pod_update, resources, spec, text};
use crate::warnings;

const MIRROR: &str = "kubernetes.io/config.mirror";

pub struct Rules;

impl Strategy for Rules {
    type Object = Pod;

    fn default(&self, object: &mut Pod) {
        let spec = object.spec.get_or_insert_with(PodSpec::default);
        defaults::pod_spec(spec);
        defaults::pod_only(spec);
        let status = object.status.get_or_insert_with(PodStatus::default);
        // `podIP` is the first of `podIPs`, whichever of the two was given.
        if let Some(first) = status.pod_ips.iter().flatten().next() {
            status.pod_ip = Some(first.ip.clone());
        } else if let Some(ip) = status.pod_ip.clone().filter(|ip| !ip.is_empty()) {
            status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip }]);
        }
    }

    fn prepare_create(&self, object: &mut Pod, _ctx: &Context) {
        let spec = object.spec.get_or_insert_with(PodSpec::default);
        defaults::service_account(spec);
        let gated = spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty());
        object.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(resources::qos_class(spec).to_owned()),
            conditions: gated.then(|| vec![waiting_for_gates()]),
            ..PodStatus::default()
        });
    }

    fn prepare_update(&self, new: &mut Pod, old: &Pod, ctx: &Context) {
        if !ctx.status {
            new.status.clone_from(&old.status);
            return;
        }
        new.spec.clone_from(&old.spec);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
        new.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
        let status = new.status.get_or_insert_with(PodStatus::default);
        let class = old.status.as_ref().map_or("", |s| text(&s.qos_class));
        if !class.is_empty() {
            fill_text(&mut status.qos_class, class);
        }
    }

    fn validate_create(&self, object: &Pod, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let empty = PodSpec::default();
        let pod = object.spec.as_ref().unwrap_or(&empty);
        pod_spec::pod_spec(pod, &pod_spec::Options { is_pod: true }, &spec(), &mut errs);
        if pod.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
            errs.push(Error::forbidden(&spec().child("ephemeralContainers"), "cannot be set on create"));
        }
        if !text(&pod.node_name).is_empty() && pod.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()) {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errs.push(Error::forbidden(&spec().child("nodeName"), detail));
        }
        mirror(object, pod, &mut errs);
        errs
    }

    fn validate_update(&self, new: &Pod, old: &Pod, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            pod_update::status_update(new, old, &mut errs);
            return errs;
        }
        let empty = PodSpec::default();
        let pod = new.spec.as_ref().unwrap_or(&empty);
        pod_spec::pod_spec(pod, &pod_spec::Options { is_pod: true }, &spec(), &mut errs);
        pod_update::pod_update(new, old, &spec(), &mut errs);
        let mirror = |pod: &Pod| pod.metadata.annotations.as_ref().and_then(|a| a.get(MIRROR).cloned());
        if mirror(new) != mirror(old) {
            let at = Path::new("metadata").child("annotations").key(MIRROR);
            errs.push(Error::forbidden(&at, "may not be added, removed, or updated"));
        }
        errs
    }

    fn warnings(&self, object: &Pod) -> Vec<String> {
        let mut found = Vec::new();
        warnings::old_annotations(object.metadata.annotations.as_ref(), &Path::new("metadata"), &mut found);
        found.extend(object.spec.iter().flat_map(|s| warnings::pod_spec(s, &spec())));
        found
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// What the delete options leave out, the pod's own grace period fills in; a pod that never reached a node or has
    /// ended has nothing to wait for.
    fn grace_period_seconds(&self, object: &Pod) -> Option<i64> {
        let pod = object.spec.as_ref()?;
        let ended = matches!(object.status.as_ref().map_or("", |s| text(&s.phase)), "Failed" | "Succeeded");
        if text(&pod.node_name).is_empty() || ended {
            return Some(0);
        }
        let period = pod.termination_grace_period_seconds.unwrap_or(30);
        Some(if period < 0 { 1 } else { period })
    }
}

fn waiting_for_gates() -> PodCondition {
    PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..PodCondition::default()
    }
}

/// A mirror pod stands for a static one, which is bound to its node from the start.
fn mirror(object: &Pod, pod: &PodSpec, errs: &mut ErrorList) {
    let marked = object.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR));
    if marked && text(&pod.node_name).is_empty() {
        let at = Path::new("metadata").child("annotations").key(MIRROR);
        errs.push(Error::invalid(&at, "", "must set spec.nodeName if mirror pod annotation is set"));
    }
}

/// A write to `/ephemeralcontainers`: everything but the list of ephemeral containers is kept.
pub fn prepare_ephemeral_containers(new: &mut Pod, old: &Pod) {
    let asked = new.spec.take().and_then(|s| s.ephemeral_containers);
    let resource_version = new.metadata.resource_version.take();
    *new = old.clone();
    new.metadata.resource_version = resource_version;
    new.spec.get_or_insert_with(PodSpec::default).ephemeral_containers = asked;
}

pub fn validate_ephemeral_containers(new: &Pod, old: &Pod) -> ErrorList {
    let mut errs = ErrorList::new();
    let (Some(now), Some(before)) = (&new.spec, &old.spec) else { return errs };
    pod_spec::pod_spec(now, &pod_spec::Options { is_pod: true }, &spec(), &mut errs);
    pod_update::ephemeral_update(now, before, &spec().child("ephemeralContainers"), &mut errs);
    errs
}
