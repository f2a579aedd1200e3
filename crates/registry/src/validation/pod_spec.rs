//! The pod spec, for pods and templates alike.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodReadinessGate, PodSpec};

use super::{
    Error, ErrorList, Path, affinity, container, each, items, json, maybe_one_of, names, one_of, reference, resources,
    scheduling, security, selector, text, volume,
};

const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;

/// Where the spec stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// In a pod, not in a template.
    pub is_pod: bool,
}

/// What the rules of a container need to know of its pod.
pub struct Pod<'a> {
    pub is_pod: bool,
    pub volumes: BTreeSet<&'a str>,
    /// The volumes that may serve as block devices.
    pub claims: BTreeSet<&'a str>,
    pub host_network: bool,
    pub host_users: bool,
    pub restart_policy: &'a str,
    pub grace_seconds: i64,
}

impl<'a> Pod<'a> {
    fn new(spec: &'a PodSpec, options: &Options) -> Self {
        let named = || spec.volumes.iter().flatten();
        let block =
            |v: &&k8s_openapi::api::core::v1::Volume| v.persistent_volume_claim.is_some() || v.ephemeral.is_some();
        Self {
            is_pod: options.is_pod,
            volumes: named().map(|v| v.name.as_str()).collect(),
            claims: named().filter(block).map(|v| v.name.as_str()).collect(),
            host_network: spec.host_network.unwrap_or(false),
            host_users: spec.host_users.unwrap_or(true),
            restart_policy: text(&spec.restart_policy),
            grace_seconds: spec.termination_grace_period_seconds.unwrap_or(30),
        }
    }
}

pub fn pod_spec(spec: &PodSpec, options: &Options, path: &Path, errs: &mut ErrorList) {
    volume::volumes(&spec.volumes, &path.child("volumes"), errs);
    containers(spec, options, path, errs);
    one_of(text(&spec.restart_policy), &RESTART_POLICIES, &path.child("restartPolicy"), errs);
    dns(spec, path, errs);
    selector::labels(&spec.node_selector, &path.child("nodeSelector"), errs);
    host_namespaces(spec, path, errs);
    reference::pull_secrets(&spec.image_pull_secrets, &path.child("imagePullSecrets"), errs);
    if let Some(a) = &spec.affinity {
        affinity::affinity(a, &path.child("affinity"), errs);
    }
    readiness_gates(&spec.readiness_gates, &path.child("readinessGates"), errs);
    scheduling::spread_constraints(&spec.topology_spread_constraints, &path.child("topologySpreadConstraints"), errs);
    scheduling::gates(&spec.scheduling_gates, &path.child("schedulingGates"), errs);
    scheduling::tolerations(&spec.tolerations, &path.child("tolerations"), errs);
    name_fields(spec, path, errs);
    deadline(spec, path, errs);
    host_aliases(&spec.host_aliases, &path.child("hostAliases"), errs);
    preemption(spec, path, errs);
    for (name, quantity) in spec.overhead.iter().flatten() {
        resources::quantity(name, quantity, &path.child("overhead").key(name), errs);
    }
    if let Some(r) = &spec.resources {
        resources::requirements(r, &path.child("resources"), errs);
    }
    operating_system(spec, path, errs);
}

fn containers(spec: &PodSpec, options: &Options, path: &Path, errs: &mut ErrorList) {
    let pod = Pod::new(spec, options);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    container::containers(&spec.containers, &pod, &path.child("containers"), errs);
    container::init_containers(init, &spec.containers, &pod, &path.child("initContainers"), errs);
    let others: Vec<_> = spec.containers.iter().chain(init).collect();
    let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
    container::ephemeral_containers(ephemeral, &others, &pod, &path.child("ephemeralContainers"), errs);
}

fn dns(spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    let policy = text(&spec.dns_policy);
    one_of(policy, &DNS_POLICIES, &path.child("dnsPolicy"), errs);
    let config_path = path.child("dnsConfig");
    let nameservers = spec.dns_config.as_ref().and_then(|c| c.nameservers.as_ref());
    if policy == "None" {
        if spec.dns_config.is_none() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errs.push(Error::required(&config_path, detail));
            return;
        }
        if nameservers.is_none_or(Vec::is_empty) {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errs.push(Error::required(&config_path.child("nameservers"), detail));
            return;
        }
    }
    if let Some(config) = &spec.dns_config {
        dns_config(config, &config_path, errs);
    }
}

fn dns_config(config: &PodDNSConfig, path: &Path, errs: &mut ErrorList) {
    let nameservers = config.nameservers.as_deref().unwrap_or_default();
    if nameservers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errs.push(Error::invalid(&path.child("nameservers"), json(&nameservers), &detail));
    }
    for (i, server) in nameservers.iter().enumerate() {
        each(names::ip(server), server, &path.child("nameservers").index(i), errs);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let at = path.child("searches");
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        errs.push(Error::invalid(&at, json(&searches), &detail));
    }
    if searches.join(" ").len() > MAX_SEARCH_BYTES {
        let detail =
            format!("must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list");
        errs.push(Error::invalid(&at, json(&searches), &detail));
    }
    for (i, search) in searches.iter().enumerate() {
        // A trailing dot and underscores are what resolvers take, so names are looser here.
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        if search != "." {
            let messages = names::dns_subdomain(name.trim_start_matches('-'));
            each(messages, search, &at.index(i), errs);
        }
    }
    for (path, option) in items(&config.options, &path.child("options")) {
        if text(&option.name).is_empty() {
            errs.push(Error::required(&path, "must not be empty"));
        }
    }
}

fn host_namespaces(spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errs.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    if spec.host_users == Some(false) {
        let shared = [(spec.host_network, "hostNetwork"), (spec.host_pid, "hostPID"), (spec.host_ipc, "HostIPC")];
        for (_, name) in shared.into_iter().filter(|(set, _)| *set == Some(true)) {
            errs.push(Error::forbidden(&path.child(name), "when `hostUsers` is false"));
        }
    }
    if let Some(context) = &spec.security_context {
        security::pod(context, spec, &path.child("securityContext"), errs);
    }
}

fn readiness_gates(list: &Option<Vec<PodReadinessGate>>, path: &Path, errs: &mut ErrorList) {
    for (path, gate) in items(list, path) {
        let at = path.child("conditionType");
        each(names::qualified_name(&gate.condition_type), &gate.condition_type, &at, errs);
    }
}

fn name_fields(spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    let subdomains = [
        (&spec.service_account_name, "serviceAccountName"),
        (&spec.node_name, "nodeName"),
        (&spec.runtime_class_name, "runtimeClassName"),
        (&spec.priority_class_name, "priorityClassName"),
    ];
    for (value, name) in subdomains {
        if !text(value).is_empty() {
            each(names::dns_subdomain(text(value)), text(value), &path.child(name), errs);
        }
    }
    for (value, name) in [(&spec.hostname, "hostname"), (&spec.subdomain, "subdomain")] {
        if !text(value).is_empty() {
            each(names::dns_label(text(value)), text(value), &path.child(name), errs);
        }
    }
    if let Some(name) = spec.hostname_override.as_deref() {
        each(names::dns_subdomain(name), name, &path.child("hostnameOverride"), errs);
    }
}

fn deadline(spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        errs.push(Error::invalid(&path.child("activeDeadlineSeconds"), seconds, detail));
    }
}

fn host_aliases(list: &Option<Vec<HostAlias>>, path: &Path, errs: &mut ErrorList) {
    for (path, alias) in items(list, path) {
        each(names::ip(&alias.ip), &alias.ip, &path.child("ip"), errs);
        for (i, host) in alias.hostnames.iter().flatten().enumerate() {
            each(names::dns_subdomain(host), host, &path.child("hostnames").index(i), errs);
        }
    }
}

fn preemption(spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    let policy = text(&spec.preemption_policy);
    maybe_one_of(policy, &["Never", "PreemptLowerPriority"], &path.child("preemptionPolicy"), errs);
}

fn operating_system(spec: &PodSpec, path: &Path, errs: &mut ErrorList) {
    let Some(os) = &spec.os else { return };
    let at = path.child("os").child("name");
    if os.name.is_empty() {
        errs.push(Error::required(&at, "cannot be empty"));
    } else {
        maybe_one_of(&os.name, &["linux", "windows"], &at, errs);
    }
}
