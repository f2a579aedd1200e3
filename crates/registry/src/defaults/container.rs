//! Containers, their ports, probes, hooks and environment.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, HTTPGetAction, Lifecycle, Probe, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{fill, fill_number, fill_text};

pub fn container(c: &mut Container) {
    pull_policy(c.image.as_deref().unwrap_or_default(), &mut c.image_pull_policy);
    fill_text(&mut c.termination_message_path, "/dev/termination-log");
    fill_text(&mut c.termination_message_policy, "File");
    fill(&mut c.resources, ResourceRequirements::default());
    c.ports.iter_mut().flatten().for_each(port);
    c.env.iter_mut().flatten().for_each(env);
    for p in [&mut c.liveness_probe, &mut c.readiness_probe, &mut c.startup_probe].into_iter().flatten() {
        probe(p);
    }
    if let Some(hooks) = &mut c.lifecycle {
        lifecycle(hooks);
    }
}

/// Ephemeral containers default as containers do; their type only lacks what they may not have.
pub fn ephemeral_container(c: &mut EphemeralContainer) {
    pull_policy(c.image.as_deref().unwrap_or_default(), &mut c.image_pull_policy);
    fill_text(&mut c.termination_message_path, "/dev/termination-log");
    fill_text(&mut c.termination_message_policy, "File");
    fill(&mut c.resources, ResourceRequirements::default());
    c.env.iter_mut().flatten().for_each(env);
}

fn pull_policy(image: &str, policy: &mut Option<String>) {
    fill_text(policy, pull_policy_of(image));
}

/// `Always` for `:latest` or neither tag nor digest, `IfNotPresent` for the rest.
pub(crate) fn pull_policy_of(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn port(p: &mut ContainerPort) {
    fill_text(&mut p.protocol, "TCP");
}

fn env(e: &mut EnvVar) {
    let Some(source) = &mut e.value_from else { return };
    if let Some(field) = &mut source.field_ref {
        fill_text(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut source.resource_field_ref {
        fill(&mut resource.divisor, super::zero());
    }
    if let Some(file) = &mut source.file_key_ref {
        fill(&mut file.optional, false);
    }
}

pub(crate) fn probe(p: &mut Probe) {
    fill_number(&mut p.timeout_seconds, 1);
    fill_number(&mut p.period_seconds, 10);
    fill_number(&mut p.success_threshold, 1);
    fill_number(&mut p.failure_threshold, 3);
    if let Some(get) = &mut p.http_get {
        http_get(get);
    }
    if let Some(grpc) = &mut p.grpc {
        fill(&mut grpc.service, String::new());
    }
}

fn http_get(get: &mut HTTPGetAction) {
    fill_text(&mut get.path, "/");
    fill_text(&mut get.scheme, "HTTP");
    // An absent port decodes as an empty name; upstream's zero value is the number.
    if get.port == IntOrString::String(String::new()) {
        get.port = IntOrString::Int(0);
    }
}

fn lifecycle(hooks: &mut Lifecycle) {
    for hook in [&mut hooks.post_start, &mut hooks.pre_stop].into_iter().flatten() {
        if let Some(get) = &mut hook.http_get {
            http_get(get);
        }
    }
}

/// A container's requests default to its limits, resource by resource. Applies to pods, not to templates.
pub fn requests_from_limits(resources: &mut Option<ResourceRequirements>) {
    let Some(resources) = resources else { return };
    let Some(limits) = &resources.limits else { return };
    if limits.is_empty() {
        return;
    }
    let requests = resources.requests.get_or_insert_default();
    for (name, quantity) in limits {
        requests.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        let check = |image: &str, expected: &str| assert_eq!(pull_policy_of(image), expected, "{image}");
        check("nginx", "Always");
        check("nginx:latest", "Always");
        check("nginx:1.27", "IfNotPresent");
        check("localhost:5000/nginx", "Always");
        check("localhost:5000/nginx:v1", "IfNotPresent");
        check("nginx@sha256:0000", "IfNotPresent");
        check("nginx:latest@sha256:0000", "IfNotPresent");
    }
}
