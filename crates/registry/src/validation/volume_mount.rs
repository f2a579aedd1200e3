//! A container's volume mounts and devices.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::pod_spec::Pod;
use super::{Error, ErrorList, Path, items, json, maybe_one_of, required, text};

pub fn mounts(c: &Container, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    let devices: BTreeSet<&str> = c.volume_devices.iter().flatten().map(|d| d.name.as_str()).collect();
    let mut points = BTreeSet::new();
    for (path, mount) in items(&c.volume_mounts, &path.child("volumeMounts")) {
        named(&mount.name, pod, &path, errs);
        if devices.contains(mount.name.as_str()) {
            let detail = "must not already exist in volumeDevices";
            errs.push(Error::invalid(&path.child("name"), mount.name.as_str(), detail));
        }
        required(&mount.mount_path, &path.child("mountPath"), errs);
        if !points.insert(mount.mount_path.as_str()) {
            let detail = "must be unique";
            errs.push(Error::invalid(&path.child("mountPath"), mount.mount_path.as_str(), detail));
        }
        sub_paths(mount, &path, errs);
        propagation(mount, c, &path.child("mountPropagation"), errs);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errs);
    }
    self::devices(c, pod, &points, &path.child("volumeDevices"), errs);
}

fn named(name: &str, pod: &Pod<'_>, path: &Path, errs: &mut ErrorList) {
    required(name, &path.child("name"), errs);
    if !name.is_empty() && !pod.volumes.contains(name) {
        errs.push(Error::not_found(&path.child("name"), name));
    }
}

fn sub_paths(mount: &VolumeMount, path: &Path, errs: &mut ErrorList) {
    let (sub_path, expr) = (text(&mount.sub_path), text(&mount.sub_path_expr));
    if !sub_path.is_empty() {
        descending(sub_path, &path.child("subPath"), errs);
    }
    if !expr.is_empty() {
        let path = path.child("subPathExpr");
        if !sub_path.is_empty() {
            errs.push(Error::invalid(&path, expr, "subPathExpr and subPath are mutually exclusive"));
        }
        descending(expr, &path, errs);
    }
}

/// A relative path that does not climb.
pub(crate) fn descending(target: &str, path: &Path, errs: &mut ErrorList) {
    if target.starts_with('/') {
        errs.push(Error::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(target, path, errs);
}

pub(crate) fn no_backsteps(target: &str, path: &Path, errs: &mut ErrorList) {
    if target.split('/').any(|part| part == "..") {
        errs.push(Error::invalid(path, target, "must not contain '..'"));
    }
}

fn propagation(mount: &VolumeMount, c: &Container, path: &Path, errs: &mut ErrorList) {
    let mode = text(&mount.mount_propagation);
    maybe_one_of(mode, &["Bidirectional", "HostToContainer", "None"], path, errs);
    let privileged = c.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false);
    if mode == "Bidirectional" && !privileged {
        errs.push(Error::forbidden(path, "Bidirectional mount propagation is available only to privileged containers"));
    }
}

fn recursive_read_only(mount: &VolumeMount, path: &Path, errs: &mut ErrorList) {
    let mode = text(&mount.recursive_read_only);
    maybe_one_of(mode, &["Disabled", "Enabled", "IfPossible"], path, errs);
    if !matches!(mode, "Enabled" | "IfPossible") {
        return;
    }
    if !mount.read_only.unwrap_or(false) {
        errs.push(Error::forbidden(path, "may only be specified when readOnly is true"));
    }
    if !matches!(text(&mount.mount_propagation), "" | "None") {
        errs.push(Error::forbidden(path, "may only be specified when mountPropagation is None or not specified"));
    }
}

fn devices(c: &Container, pod: &Pod<'_>, points: &BTreeSet<&str>, path: &Path, errs: &mut ErrorList) {
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (path, device) in items(&c.volume_devices, path) {
        let (name, at) = (device.name.as_str(), path.child("devicePath"));
        if !names.insert(name) {
            errs.push(Error::invalid(&path.child("name"), name, "must be unique"));
        }
        if device.device_path.is_empty() {
            errs.push(Error::required(&at, ""));
        } else if !paths.insert(device.device_path.as_str()) {
            errs.push(Error::invalid(&at, device.device_path.as_str(), "must be unique"));
        } else if points.contains(device.device_path.as_str()) {
            let detail = "must not already exist as a path in volumeMounts";
            errs.push(Error::invalid(&at, device.device_path.as_str(), detail));
        }
        no_backsteps(&device.device_path, &at, errs);
        named(name, pod, &path, errs);
        let claimed = pod.claims.contains(name);
        if !name.is_empty() && pod.volumes.contains(name) && !claimed {
            let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errs.push(Error::invalid(&path.child("name"), json(&device.name), detail));
        }
    }
}
