//! The pod sandbox: names, log directory, DNS, ports, cgroup parent, namespaces.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::PathBuf;

use cri::v1::{
    LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol,
};
use k8s_openapi::api::core::v1::Pod;
use podsync::{labels, pod as spec, resources};

use crate::container::{dns, hosts, security};
use crate::context::Context;

pub fn log_dir(ctx: &Context, pod: &Pod) -> PathBuf {
    let name = format!("{}_{}_{}", spec::namespace(pod), spec::name(pod), spec::uid(pod));
    ctx.settings.config.pod_logs_dir.join(name)
}

/// The pod's own labels and annotations, and those the kubelet finds it by again.
pub fn labels(pod: &Pod) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    all.insert(labels::POD_NAME.into(), spec::name(pod).into());
    all.insert(labels::POD_NAMESPACE.into(), spec::namespace(pod).into());
    all.insert(labels::POD_UID.into(), spec::uid(pod).into());
    all
}

fn annotations(pod: &Pod) -> HashMap<String, String> {
    let own: BTreeMap<String, String> = pod.metadata.annotations.clone().unwrap_or_default();
    let mut all: HashMap<String, String> = own.into_iter().collect();
    all.entry(labels::CONFIG_SOURCE.into()).or_insert_with(|| "api".into());
    all
}

fn ports(pod: &Pod) -> Vec<PortMapping> {
    if spec::host_network(pod) {
        return Vec::new();
    }
    let containers =
        spec::containers(pod).iter().chain(spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c)));
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn linux(ctx: &Context, pod: &Pod) -> LinuxPodSandboxConfig {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let sysctls = context.and_then(|c| c.sysctls.as_deref()).unwrap_or_default();
    let limits = resources::pod_limits(pod);
    LinuxPodSandboxConfig {
        cgroup_parent: ctx.cgroups.parent(pod),
        security_context: Some(security::sandbox(pod, &ctx.settings.root_dir)),
        sysctls: sysctls.iter().map(|s| (podsync::sysctl::dotted(&s.name), s.value.clone())).collect(),
        overhead: None,
        resources: Some(LinuxContainerResources {
            cpu_shares: limits.cpu_shares,
            cpu_quota: limits.cpu_quota,
            cpu_period: limits.cpu_period,
            memory_limit_in_bytes: limits.memory_bytes,
            ..LinuxContainerResources::default()
        }),
    }
}

pub fn config(ctx: &Context, pod: &Pod, attempt: u32) -> PodSandboxConfig {
    let settings = &ctx.settings.config;
    let resolv = std::fs::read_to_string(&settings.resolv_conf).unwrap_or_default();
    let (name, domain) = hosts::hostname(pod, &settings.cluster_domain);
    let as_fqdn = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true);
    let hostname = match domain.filter(|_| as_fqdn) {
        Some(domain) => format!("{name}.{domain}"),
        None => name,
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: spec::name(pod).into(),
            uid: spec::uid(pod).into(),
            namespace: spec::namespace(pod).into(),
            attempt,
        }),
        hostname: if spec::host_network(pod) { String::new() } else { hostname },
        log_directory: log_dir(ctx, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns::config(pod, settings, &resolv)),
        port_mappings: ports(pod),
        labels: labels(pod),
        annotations: annotations(pod),
        linux: Some(linux(ctx, pod)),
    }
}
