//! Ordinals, names, and the storage of a StatefulSet's pods.

use std::ops::Range;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::meta::{Meta, controller_reference};
use crate::pods;
use crate::revision::HASH_LABEL;

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub fn ordinals(spec: &StatefulSetSpec) -> Range<i32> {
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
    start..start.saturating_add(spec.replicas.unwrap_or(1))
}

pub fn pod_name(set: &str, ordinal: i32) -> String {
    format!("{set}-{ordinal}")
}

/// The ordinal in a pod's name, if the pod's name is one of the set's.
pub fn ordinal_of(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = digits == "0" || !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    if canonical { digits.parse().ok() } else { None }
}

/// The pod of an ordinal, from the template of `revision`.
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let name = pod_name(set.name(), ordinal);
    let mut pod = pods::from_template(template, set);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME_LABEL.into(), name.clone());
    labels.insert(POD_INDEX_LABEL.into(), ordinal.to_string());
    labels.insert(HASH_LABEL.into(), revision.into());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
    attach_claims(set, ordinal, spec.volumes.get_or_insert_default());
    spec.volumes = spec.volumes.take().filter(|volumes| !volumes.is_empty());
    pod.metadata.name = Some(name);
    pod
}

/// Volumes named like a claim template stand for the ordinal's own claim.
fn attach_claims(set: &StatefulSet, ordinal: i32, volumes: &mut Vec<Volume>) {
    for template in set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten()) {
        volumes.retain(|volume| volume.name != template.name());
        volumes.push(Volume {
            name: template.name().to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(template, set, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
}

fn claim_name(template: &PersistentVolumeClaim, set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name(), set.name())
}

/// The claims an ordinal needs. They outlive the pod, and the set unless its retention policy says otherwise.
pub fn claims(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let with_set = policy.and_then(|policy| policy.when_deleted.as_deref()) == Some("Delete");
    let owner = with_set.then(|| OwnerReference { controller: Some(true), ..controller_reference(set) });
    let build = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(template, set, ordinal));
        claim.metadata.namespace = set.meta().namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        claim.metadata.owner_references = owner.clone().map(|owner| vec![owner]);
        claim.status = None;
        claim
    };
    spec.volume_claim_templates.iter().flatten().map(build).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pod: &str, expected: Option<i32>) {
        assert_eq!(ordinal_of("web", pod), expected, "{pod}");
    }

    #[test]
    fn ordinals_in_names() {
        check("web-0", Some(0));
        check("web-12", Some(12));
        check("web-012", None);
        check("web-", None);
        check("web-a", None);
        check("web-1-2", None);
        check("webs-1", None);
        check("web--1", None);
    }
}
