//! A container's environment: `env` and `envFrom`.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector};

use super::{Error, ErrorList, Path, each, items, json, names, required, resources, text};

const ENV_FIELDS: [&str; 8] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
];
const ENV_FIELDS_LAST: &str = "status.podIPs";
const ENV_RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// The files of a downward volume carry the pod's own metadata only.
pub(crate) const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

pub fn env(vars: &Option<Vec<EnvVar>>, path: &Path, errs: &mut ErrorList) {
    for (path, var) in items(vars, path) {
        if var.name.is_empty() {
            errs.push(Error::required(&path.child("name"), ""));
        } else {
            each(names::env_name(&var.name), &var.name, &path.child("name"), errs);
        }
        if let Some(source) = &var.value_from {
            value_from(source, text(&var.value), &path.child("valueFrom"), errs);
        }
    }
}

fn value_from(source: &EnvVarSource, value: &str, path: &Path, errs: &mut ErrorList) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        let allowed: Vec<&str> = ENV_FIELDS.iter().copied().chain([ENV_FIELDS_LAST]).collect();
        field_ref(field, &allowed, &path.child("fieldRef"), errs);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        resource_field_ref(resource, false, &path.child("resourceFieldRef"), errs);
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        key_ref(&key.name, &key.key, &path.child("configMapKeyRef"), errs);
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        key_ref(&key.name, &key.key, &path.child("secretKeyRef"), errs);
    }
    if let Some(file) = &source.file_key_ref {
        sources += 1;
        let path = path.child("fileKeyRef");
        required(&file.volume_name, &path.child("volumeName"), errs);
        required(&file.path, &path.child("path"), errs);
        required(&file.key, &path.child("key"), errs);
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errs.push(Error::invalid(path, "", detail));
    } else if !value.is_empty() {
        errs.push(Error::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errs.push(Error::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

/// `metadata.labels['x']` split into its field and its key.
fn subscript(field_path: &str) -> Option<(&str, &str)> {
    let (field, rest) = field_path.split_once("['")?;
    Some((field, rest.strip_suffix("']")?))
}

pub(crate) fn field_ref(field: &ObjectFieldSelector, allowed: &[&str], path: &Path, errs: &mut ErrorList) {
    let at = path.child("fieldPath");
    if text(&field.api_version).is_empty() {
        errs.push(Error::required(&path.child("apiVersion"), ""));
        return;
    }
    if field.field_path.is_empty() {
        errs.push(Error::required(&at, ""));
        return;
    }
    if let Some((map, key)) = subscript(&field.field_path) {
        match map {
            "metadata.annotations" => each(names::qualified_name(&key.to_lowercase()), key, path, errs),
            "metadata.labels" => each(names::qualified_name(key), key, path, errs),
            _ => errs.push(Error::invalid(path, map, "does not support subscript")),
        }
    } else if !KNOWN_FIELDS.contains(&field.field_path.as_str()) {
        let detail = format!("error converting fieldPath: field label not supported: {}", field.field_path);
        errs.push(Error::invalid(&at, field.field_path.as_str(), &detail));
    } else if !allowed.contains(&field.field_path.as_str()) {
        errs.push(Error::not_supported(&at, field.field_path.as_str(), allowed));
    }
}

/// Every pod field that has a label, whatever may select it.
const KNOWN_FIELDS: [&str; 16] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

pub(crate) fn resource_field_ref(field: &ResourceFieldSelector, volume: bool, path: &Path, errs: &mut ErrorList) {
    if volume && text(&field.container_name).is_empty() {
        errs.push(Error::required(&path.child("containerName"), ""));
    } else if field.resource.is_empty() {
        errs.push(Error::required(&path.child("resource"), ""));
    } else if !ENV_RESOURCES.contains(&field.resource.as_str())
        && !field.resource.starts_with("limits.hugepages-")
        && !field.resource.starts_with("requests.hugepages-")
    {
        errs.push(Error::not_supported(&path.child("resource"), field.resource.as_str(), &ENV_RESOURCES));
    } else if let Some(divisor) = &field.divisor
        && !divisor_fits(&field.resource, &divisor.0)
    {
        let detail = match field.resource.ends_with(".cpu") {
            true => "only divisor's values 1m and 1 are supported with the cpu resource",
            false => {
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"
            }
        };
        errs.push(Error::invalid(&path.child("divisor"), json(divisor), detail));
    }
}

fn divisor_fits(resource: &str, divisor: &str) -> bool {
    let Some(value) = resources::value(divisor) else { return false };
    if value.is_zero() {
        return true;
    }
    let allowed: &[&str] = match resource.ends_with(".cpu") {
        true => &["1m", "1"],
        false => &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
    };
    allowed.iter().any(|text| resources::value(text).is_some_and(|v| v == value))
}

fn key_ref(name: &str, key: &str, path: &Path, errs: &mut ErrorList) {
    required(name, &path.child("name"), errs);
    if key.is_empty() {
        errs.push(Error::required(&path.child("key"), ""));
    } else {
        each(names::config_map_key(key), key, &path.child("key"), errs);
    }
}

pub fn env_from(sources: &Option<Vec<EnvFromSource>>, path: &Path, errs: &mut ErrorList) {
    for (path, source) in items(sources, path) {
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            each(names::env_name(prefix), prefix, &path.child("prefix"), errs);
        }
        if let Some(config_map) = &source.config_map_ref {
            required(&config_map.name, &path.child("configMapRef").child("name"), errs);
        }
        if let Some(secret) = &source.secret_ref {
            required(&secret.name, &path.child("secretRef").child("name"), errs);
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                errs.push(Error::invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"));
            }
            (Some(_), Some(_)) => {
                errs.push(Error::invalid(&path, "", "may not have more than one field specified at a time"));
            }
            _ => {}
        }
    }
}
