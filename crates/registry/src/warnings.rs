//! What a client is warned about while its write goes through: pod specs that mean less than they say.

use std::collections::BTreeSet;

use api::Path;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec};

use crate::validation::text;

/// Node labels that had other names before.
const OLD_NODE_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "use \"kubernetes.io/os\" instead"),
    ("failure-domain.beta.kubernetes.io/region", "use \"topology.kubernetes.io/region\" instead"),
    ("failure-domain.beta.kubernetes.io/zone", "use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "use \"node.kubernetes.io/instance-type\" instead"),
];
const OLD_ANNOTATIONS: [(&str, &str); 2] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

pub fn template(t: &PodTemplateSpec, path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let annotations = t.metadata.as_ref().and_then(|m| m.annotations.as_ref());
    old_annotations(annotations, &path.child("metadata"), &mut found);
    if let Some(spec) = &t.spec {
        found.extend(pod_spec(spec, &path.child("spec")));
    }
    found
}

pub fn old_annotations(
    annotations: Option<&std::collections::BTreeMap<String, String>>,
    metadata: &Path,
    found: &mut Vec<String>,
) {
    for (key, advice) in OLD_ANNOTATIONS {
        if annotations.is_some_and(|a| a.contains_key(key)) {
            found.push(format!("{}: {advice}", metadata.child("annotations").key(key)));
        }
    }
}

pub fn pod_spec(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some((_, advice)) = OLD_NODE_LABELS.iter().find(|(old, _)| old == key) {
            found.push(format!("{}: deprecated since v1.14; {advice}", path.child("nodeSelector").key(key)));
        }
    }
    for (i, reference) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if reference.name.is_empty() {
            let at = path.child("imagePullSecrets").index(i);
            found.push(format!("{at}: invalid empty name \"\""));
        }
    }
    duplicate_pull_secrets(spec, path, &mut found);
    volumes(spec, path, &mut found);
    for (i, c) in spec.init_containers.iter().flatten().enumerate() {
        container(c, &path.child("initContainers").index(i), &mut found);
    }
    for (i, c) in spec.containers.iter().enumerate() {
        container(c, &path.child("containers").index(i), &mut found);
    }
    ports(spec, path, &mut found);
    found
}

fn duplicate_pull_secrets(spec: &PodSpec, path: &Path, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, reference) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if !reference.name.is_empty() && !seen.insert(reference.name.as_str()) {
            let at = path.child("imagePullSecrets").index(i).child("name");
            found.push(format!("{at}: duplicate name \"{}\"", reference.name));
        }
    }
}

fn volumes(spec: &PodSpec, path: &Path, found: &mut Vec<String>) {
    for (i, v) in spec.volumes.iter().flatten().enumerate() {
        let at = path.child("volumes").index(i);
        let mut old = |set: bool, field: &str, advice: &str| {
            if set {
                found.push(format!("{}: {advice}", at.child(field)));
            }
        };
        old(v.git_repo.is_some(), "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+");
        old(v.glusterfs.is_some(), "glusterfs", "deprecated in v1.25, non-functional in v1.26+");
        old(v.scale_io.is_some(), "scaleIO", "deprecated in v1.16, non-functional in v1.22+");
        old(v.flocker.is_some(), "flocker", "deprecated in v1.22, non-functional in v1.25+");
        old(v.storageos.is_some(), "storageOS", "deprecated in v1.22, non-functional in v1.25+");
        old(v.quobyte.is_some(), "quobyte", "deprecated in v1.22, non-functional in v1.25+");
        old(v.rbd.is_some(), "rbd", "deprecated in v1.28, non-functional in v1.31+");
        old(v.cephfs.is_some(), "cephfs", "deprecated in v1.28, non-functional in v1.31+");
    }
}

fn container(c: &Container, path: &Path, found: &mut Vec<String>) {
    if let Some(resources) = &c.resources {
        for (list, name) in [(&resources.limits, "limits"), (&resources.requests, "requests")] {
            for (resource, quantity) in list.iter().flatten() {
                if matches!(resource.as_str(), "memory" | "ephemeral-storage") && quantity.0.ends_with('m') {
                    let at = path.child("resources").child(name).key(resource);
                    found
                        .push(format!("{at}: fractional byte value \"{}\" is invalid, must be an integer", quantity.0));
                }
            }
        }
    }
    duplicate_env(c.env.as_deref().unwrap_or_default(), &path.child("env"), found);
}

/// Two entries of one name are legal, but client-side and server-side apply merge by name.
fn duplicate_env(env: &[EnvVar], path: &Path, found: &mut Vec<String>) {
    for (i, var) in env.iter().enumerate() {
        let Some(last) = env[..i].iter().rev().find(|v| v.name == var.name) else { continue };
        let uses_last = text(&var.value).contains(&format!("$({})", var.name));
        if !uses_last || last.value_from.is_some() {
            let at = path.index(i);
            found.push(format!(
                "{at}: hides previous definition of \"{}\", which may be dropped when using apply",
                var.name
            ));
        }
    }
}

/// The same port and protocol twice in one pod: within a container it is dropped by apply, across them it clashes.
fn ports(spec: &PodSpec, path: &Path, found: &mut Vec<String>) {
    let mut seen: Vec<(i32, String, String)> = Vec::new();
    for (i, c) in spec.containers.iter().enumerate() {
        for (j, p) in c.ports.iter().flatten().enumerate() {
            let at = path.child("containers").index(i).child("ports").index(j);
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            if let Some((_, _, first)) = seen.iter().find(|(n, q, _)| *n == p.container_port && *q == protocol) {
                found.push(format!("{at}: duplicate port definition with {first}"));
            } else {
                seen.push((p.container_port, protocol, at.to_string()));
            }
        }
    }
}
