//! Containers of all three lists: init, main, ephemeral.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, EphemeralContainer, Lifecycle};

use super::pod_spec::Pod;
use super::{
    Error, ErrorList, Path, each, env, items, maybe_one_of, names, one_of, port, probe, required, resources, security,
    text, volume_mount,
};

pub(crate) const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];

/// The main containers.
pub fn containers(list: &[Container], pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    if list.is_empty() {
        errs.push(Error::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, c) in list.iter().enumerate() {
        let path = path.index(i);
        common(c, pod, &path, errs);
        unique_name(&c.name, &mut seen, &path, errs);
        lifecycle(&c.lifecycle, pod, &path.child("lifecycle"), errs);
        probes(c, pod, &path, errs);
        restart_policy(c, &path, errs);
    }
    host_port_conflicts(list, path, errs);
}

/// Init containers run to completion one by one, unless they restart always: then they are sidecars and may have
/// what a main container may.
pub fn init_containers(list: &[Container], main: &[Container], pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    let mut seen: BTreeSet<String> = main.iter().map(|c| c.name.clone()).collect();
    for (i, c) in list.iter().enumerate() {
        let path = path.index(i);
        common(c, pod, &path, errs);
        unique_name(&c.name, &mut seen, &path, errs);
        restart_policy(c, &path, errs);
        if text(&c.restart_policy) == "Always" {
            lifecycle(&c.lifecycle, pod, &path.child("lifecycle"), errs);
            probes(c, pod, &path, errs);
        } else {
            not_for_init(c, &path, errs);
        }
        host_port_conflicts(std::slice::from_ref(c), &path, errs);
    }
}

fn not_for_init(c: &Container, path: &Path, errs: &mut ErrorList) {
    let mut forbid = |set: bool, field: &str| {
        if set {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errs.push(Error::forbidden(&path.child(field), detail));
        }
    };
    forbid(c.lifecycle.is_some(), "lifecycle");
    forbid(c.liveness_probe.is_some(), "livenessProbe");
    forbid(c.readiness_probe.is_some(), "readinessProbe");
    forbid(c.startup_probe.is_some(), "startupProbe");
}

/// Ephemeral containers share the name space of the others and may have no ports, probes, hooks or resources.
pub fn ephemeral_containers(
    list: &[EphemeralContainer],
    others: &[&Container],
    pod: &Pod<'_>,
    path: &Path,
    errs: &mut ErrorList,
) {
    let targets: BTreeSet<&str> = others.iter().map(|c| c.name.as_str()).collect();
    let mut seen: BTreeSet<String> = others.iter().map(|c| c.name.clone()).collect();
    for (i, e) in list.iter().enumerate() {
        let path = path.index(i);
        common(&as_container(e), pod, &path, errs);
        unique_name(&e.name, &mut seen, &path, errs);
        let target = text(&e.target_container_name);
        if !target.is_empty() && !targets.contains(target) {
            errs.push(Error::not_found(&path.child("targetContainerName"), target));
        }
        let mut forbid = |set: bool, field: &str| {
            if set {
                errs.push(Error::forbidden(&path.child(field), "cannot be set for an Ephemeral Container"));
            }
        };
        forbid(e.ports.as_ref().is_some_and(|p| !p.is_empty()), "ports");
        forbid(e.lifecycle.is_some(), "lifecycle");
        forbid(e.liveness_probe.is_some(), "livenessProbe");
        forbid(e.readiness_probe.is_some(), "readinessProbe");
        forbid(e.startup_probe.is_some(), "startupProbe");
        forbid(e.resources.as_ref().is_some_and(|r| r.limits.is_some() || r.requests.is_some()), "resources");
        forbid(e.restart_policy.is_some(), "restartPolicy");
    }
}

/// The part of an ephemeral container that the shared rules look at.
fn as_container(e: &EphemeralContainer) -> Container {
    Container {
        name: e.name.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        volume_mounts: e.volume_mounts.clone(),
        volume_devices: e.volume_devices.clone(),
        security_context: e.security_context.clone(),
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        ..Container::default()
    }
}

fn common(c: &Container, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    if c.name.is_empty() {
        errs.push(Error::required(&path.child("name"), ""));
    } else {
        each(names::dns_label(&c.name), &c.name, &path.child("name"), errs);
    }
    image(text(&c.image), &path.child("image"), errs);
    required(text(&c.termination_message_path), &path.child("terminationMessagePath"), errs);
    let policy = path.child("terminationMessagePolicy");
    one_of(text(&c.termination_message_policy), &["FallbackToLogsOnError", "File"], &policy, errs);
    ports(&c.ports, pod, &path.child("ports"), errs);
    env::env(&c.env, &path.child("env"), errs);
    env::env_from(&c.env_from, &path.child("envFrom"), errs);
    volume_mount::mounts(c, pod, path, errs);
    one_of(text(&c.image_pull_policy), &PULL_POLICIES, &path.child("imagePullPolicy"), errs);
    if let Some(r) = &c.resources {
        resources::requirements(r, &path.child("resources"), errs);
    }
    resize_policy(c, pod, &path.child("resizePolicy"), errs);
    if let Some(context) = &c.security_context {
        security::container(context, pod.host_users, &path.child("securityContext"), errs);
    }
}

fn image(image: &str, path: &Path, errs: &mut ErrorList) {
    if image.is_empty() {
        errs.push(Error::required(path, ""));
    } else if image.trim() != image {
        errs.push(Error::invalid(path, image, "must not have leading or trailing whitespace"));
    }
}

fn unique_name(name: &str, seen: &mut BTreeSet<String>, path: &Path, errs: &mut ErrorList) {
    if !name.is_empty() && !seen.insert(name.to_owned()) {
        errs.push(Error::duplicate(&path.child("name"), name));
    }
}

fn restart_policy(c: &Container, path: &Path, errs: &mut ErrorList) {
    maybe_one_of(text(&c.restart_policy), &RESTART_POLICIES, &path.child("restartPolicy"), errs);
    if c.restart_policy.is_none() && c.restart_policy_rules.as_ref().is_some_and(|r| !r.is_empty()) {
        let detail = "must specify restartPolicy when restart rules are used";
        errs.push(Error::required(&path.child("restartPolicy"), detail));
    }
}

fn resize_policy(c: &Container, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, policy) in items(&c.resize_policy, path) {
        if !seen.insert(&policy.resource_name) {
            errs.push(Error::duplicate(&path, policy.resource_name.as_str()));
        }
        one_of(&policy.resource_name, &["cpu", "memory"], &path, errs);
        one_of(&policy.restart_policy, &["NotRequired", "RestartContainer"], &path, errs);
        if pod.restart_policy == "Never" && policy.restart_policy == "RestartContainer" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errs.push(Error::invalid(&path, policy.restart_policy.as_str(), detail));
        }
    }
}

fn lifecycle(hooks: &Option<Lifecycle>, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    let Some(hooks) = hooks else { return };
    if let Some(hook) = &hooks.post_start {
        probe::hook(hook, pod.grace_seconds, &path.child("postStart"), errs);
    }
    if let Some(hook) = &hooks.pre_stop {
        probe::hook(hook, pod.grace_seconds, &path.child("preStop"), errs);
    }
}

fn probes(c: &Container, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    let all = [
        (&c.liveness_probe, probe::Role::Liveness, "livenessProbe"),
        (&c.readiness_probe, probe::Role::Readiness, "readinessProbe"),
        (&c.startup_probe, probe::Role::Startup, "startupProbe"),
    ];
    for (p, role, name) in all {
        if let Some(p) = p {
            probe::probe(p, role, pod.grace_seconds, &path.child(name), errs);
        }
    }
}

fn ports(list: &Option<Vec<ContainerPort>>, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, p) in items(list, path) {
        let name = text(&p.name);
        if !name.is_empty() {
            let messages = names::port_name(name);
            if messages.is_empty() && !seen.insert(name) {
                errs.push(Error::duplicate(&path.child("name"), name));
            }
            each(messages, name, &path.child("name"), errs);
        }
        if p.container_port == 0 {
            errs.push(Error::required(&path.child("containerPort"), ""));
        } else {
            port(p.container_port, &path.child("containerPort"), errs);
        }
        host_port(p, pod, &path.child("hostPort"), errs);
        one_of(text(&p.protocol), &PROTOCOLS, &path.child("protocol"), errs);
    }
}

fn host_port(p: &ContainerPort, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    let host_port = p.host_port.unwrap_or(0);
    if host_port != 0 {
        port(host_port, path, errs);
    }
    if !pod.host_network || host_port == p.container_port {
        return;
    }
    if pod.is_pod {
        let detail = "must match `containerPort` when `hostNetwork` is true";
        errs.push(Error::invalid(path, host_port, detail));
    } else if host_port != 0 {
        let detail = "must be unset or match `containerPort` when `hostNetwork` is true";
        errs.push(Error::invalid(path, host_port, detail));
    }
}

/// Two ports of one pod cannot take the same port of the host.
fn host_port_conflicts(list: &[Container], path: &Path, errs: &mut ErrorList) {
    let mut taken = BTreeSet::new();
    for (i, c) in list.iter().enumerate() {
        for (path, p) in items(&c.ports, &path.index(i).child("ports")) {
            let host_port = p.host_port.unwrap_or(0);
            if host_port == 0 {
                continue;
            }
            let claim = format!("{}/{}/{host_port}", text(&p.protocol), text(&p.host_ip));
            if !taken.insert(claim.clone()) {
                errs.push(Error::duplicate(&path.child("hostPort"), claim));
            }
        }
    }
}
