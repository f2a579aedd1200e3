//! The pod spec. Some defaults belong to pods alone and not to templates: a template keeps what its author wrote, so
//! that a change of these defaults does not roll every workload.

use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec};

use super::{container, fill, fill_number, fill_text, volume};

/// What pods and pod templates share.
pub fn pod_spec(spec: &mut PodSpec) {
    fill_text(&mut spec.dns_policy, "ClusterFirst");
    fill_text(&mut spec.restart_policy, "Always");
    fill(&mut spec.security_context, PodSecurityContext::default());
    fill(&mut spec.termination_grace_period_seconds, 30);
    fill_text(&mut spec.scheduler_name, "default-scheduler");
    spec.volumes.iter_mut().flatten().for_each(volume::volume);
    containers(spec).for_each(container::container);
    spec.ephemeral_containers.iter_mut().flatten().for_each(container::ephemeral_container);
    service_account(spec);
}

/// What only a pod gets.
pub fn pod_only(spec: &mut PodSpec) {
    fill(&mut spec.enable_service_links, true);
    for c in containers(spec) {
        container::requests_from_limits(&mut c.resources);
    }
    container::requests_from_limits(&mut spec.resources);
    if spec.host_network == Some(true) {
        for port in containers(spec).flat_map(|c| c.ports.iter_mut().flatten()) {
            fill_number(&mut port.host_port, port.container_port);
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always written.
pub fn service_account(spec: &mut PodSpec) {
    let text = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
    let name = text(&spec.service_account_name).or_else(|| text(&spec.service_account));
    spec.service_account.clone_from(&name);
    spec.service_account_name = name;
}

fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(spec.containers.iter_mut())
}
