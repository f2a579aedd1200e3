//! Pod templates.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{fill, pod_spec};

pub fn template(template: &mut PodTemplateSpec) {
    fill(&mut template.metadata, ObjectMeta::default());
    pod_spec::pod_spec(template.spec.get_or_insert_with(PodSpec::default));
}

/// The labels of a template, which controllers with an optional selector take over as their own.
pub fn labels(template: &PodTemplateSpec) -> Option<&std::collections::BTreeMap<String, String>> {
    template.metadata.as_ref()?.labels.as_ref().filter(|l| !l.is_empty())
}
