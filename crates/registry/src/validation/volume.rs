//! Volumes of a pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EphemeralVolumeSource, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource, Volume,
    VolumeProjection,
};

use super::volume_mount::descending;
use super::{Error, ErrorList, Path, each, env, items, json, maybe_one_of, names, required, resources, text};

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const MODE_RANGE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// The names of the sources that a volume sets, in the order of the type's fields.
pub fn sources(v: &Volume) -> Vec<&'static str> {
    let set = [
        (v.empty_dir.is_some(), "emptyDir"),
        (v.host_path.is_some(), "hostPath"),
        (v.git_repo.is_some(), "gitRepo"),
        (v.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (v.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (v.secret.is_some(), "secret"),
        (v.nfs.is_some(), "nfs"),
        (v.iscsi.is_some(), "iscsi"),
        (v.glusterfs.is_some(), "glusterfs"),
        (v.flocker.is_some(), "flocker"),
        (v.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (v.rbd.is_some(), "rbd"),
        (v.cinder.is_some(), "cinder"),
        (v.cephfs.is_some(), "cephFS"),
        (v.quobyte.is_some(), "quobyte"),
        (v.downward_api.is_some(), "downwardAPI"),
        (v.fc.is_some(), "fc"),
        (v.flex_volume.is_some(), "flexVolume"),
        (v.config_map.is_some(), "configMap"),
        (v.azure_file.is_some(), "azureFile"),
        (v.vsphere_volume.is_some(), "vsphereVolume"),
        (v.photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (v.portworx_volume.is_some(), "portworxVolume"),
        (v.azure_disk.is_some(), "azureDisk"),
        (v.storageos.is_some(), "storageos"),
        (v.scale_io.is_some(), "scaleIO"),
        (v.projected.is_some(), "projected"),
        (v.csi.is_some(), "csi"),
        (v.ephemeral.is_some(), "ephemeral"),
        (v.image.is_some(), "image"),
    ];
    set.into_iter().filter_map(|(set, name)| set.then_some(name)).collect()
}

pub fn volumes(list: &Option<Vec<Volume>>, path: &Path, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, v) in items(list, path) {
        let at = path.child("name");
        if v.name.is_empty() {
            errs.push(Error::required(&at, ""));
        } else {
            each(names::dns_label(&v.name), &v.name, &at, errs);
        }
        if !seen.insert(v.name.as_str()) {
            errs.push(Error::duplicate(&at, v.name.as_str()));
        }
        source(v, &path, errs);
    }
}

fn source(v: &Volume, path: &Path, errs: &mut ErrorList) {
    let sources = sources(v);
    if sources.is_empty() {
        errs.push(Error::required(path, "must specify a volume type"));
    }
    for extra in sources.iter().skip(1) {
        errs.push(Error::forbidden(&path.child(extra), "may not specify more than 1 volume type"));
    }
    match sources.first().copied() {
        Some("emptyDir") => empty_dir(v, &path.child("emptyDir"), errs),
        Some("hostPath") => v.host_path.iter().for_each(|h| host_path(h, &path.child("hostPath"), errs)),
        Some("secret" | "configMap" | "downwardAPI" | "projected") => files(v, path, errs),
        Some("nfs") => nfs(v, &path.child("nfs"), errs),
        Some("persistentVolumeClaim") => {
            let name = v.persistent_volume_claim.as_ref().map_or("", |c| c.claim_name.as_str());
            required(name, &path.child("persistentVolumeClaim").child("claimName"), errs);
        }
        Some("csi") => csi(v, &path.child("csi"), errs),
        Some("ephemeral") => v.ephemeral.iter().for_each(|e| ephemeral(e, &path.child("ephemeral"), errs)),
        Some("image") => image(v, &path.child("image"), errs),
        _ => {}
    }
}

fn empty_dir(v: &Volume, path: &Path, errs: &mut ErrorList) {
    let Some(limit) = v.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref()) else { return };
    if resources::value(&limit.0).is_some_and(|q| q.is_negative()) {
        errs.push(Error::forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity"));
    }
}

pub(crate) fn host_path(h: &HostPathVolumeSource, path: &Path, errs: &mut ErrorList) {
    if h.path.is_empty() {
        errs.push(Error::required(&path.child("path"), ""));
        return;
    }
    super::volume_mount::no_backsteps(&h.path, &path.child("path"), errs);
    maybe_one_of(text(&h.type_), &HOST_PATH_TYPES, &path.child("type"), errs);
}

fn nfs(v: &Volume, path: &Path, errs: &mut ErrorList) {
    let Some(nfs) = &v.nfs else { return };
    required(&nfs.server, &path.child("server"), errs);
    required(&nfs.path, &path.child("path"), errs);
    if !nfs.path.starts_with('/') {
        errs.push(Error::invalid(&path.child("path"), nfs.path.as_str(), "must be an absolute path"));
    }
}

fn csi(v: &Volume, path: &Path, errs: &mut ErrorList) {
    let Some(csi) = &v.csi else { return };
    required(&csi.driver, &path.child("driver"), errs);
    if let Some(secret) = &csi.node_publish_secret_ref {
        required(&secret.name, &path.child("nodePublishSecretRef").child("name"), errs);
    }
}

fn ephemeral(e: &EphemeralVolumeSource, path: &Path, errs: &mut ErrorList) {
    let path = path.child("volumeClaimTemplate");
    let Some(template) = &e.volume_claim_template else {
        errs.push(Error::required(&path, ""));
        return;
    };
    crate::kinds::persistent_volume_claim::claim_spec(&template.spec, &path.child("spec"), errs);
}

fn image(v: &Volume, path: &Path, errs: &mut ErrorList) {
    let Some(image) = &v.image else { return };
    required(text(&image.reference), &path.child("reference"), errs);
    maybe_one_of(text(&image.pull_policy), &super::container::PULL_POLICIES, &path.child("pullPolicy"), errs);
}

/// The volumes that are trees of files.
fn files(v: &Volume, path: &Path, errs: &mut ErrorList) {
    if let Some(secret) = &v.secret {
        let path = path.child("secret");
        required(text(&secret.secret_name), &path.child("secretName"), errs);
        mode(secret.default_mode, &path.child("defaultMode"), errs);
        key_items(&secret.items, &path.child("items"), errs);
    } else if let Some(config_map) = &v.config_map {
        let path = path.child("configMap");
        required(&config_map.name, &path.child("name"), errs);
        mode(config_map.default_mode, &path.child("defaultMode"), errs);
        key_items(&config_map.items, &path.child("items"), errs);
    } else if let Some(downward) = &v.downward_api {
        let path = path.child("downwardAPI");
        mode(downward.default_mode, &path.child("defaultMode"), errs);
        for (_, item) in items(&downward.items, &path) {
            downward_file(item, &path, errs);
        }
    } else if let Some(projected) = &v.projected {
        self::projected(projected, &path.child("projected"), errs);
    }
}

fn mode(mode: Option<i32>, path: &Path, errs: &mut ErrorList) {
    if let Some(mode) = mode
        && !(0..=0o777).contains(&mode)
    {
        errs.push(Error::invalid(path, mode, MODE_RANGE));
    }
}

fn key_items(list: &Option<Vec<KeyToPath>>, path: &Path, errs: &mut ErrorList) {
    for (path, item) in items(list, path) {
        required(&item.key, &path.child("key"), errs);
        local_path(&item.path, &path.child("path"), errs);
        mode(item.mode, &path.child("mode"), errs);
    }
}

/// A file inside a volume: relative, descending, and not one of the names the atomic writer uses.
fn local_path(target: &str, path: &Path, errs: &mut ErrorList) {
    if target.is_empty() {
        errs.push(Error::required(path, ""));
        return;
    }
    descending(target, path, errs);
    if target.starts_with("..") && !target.starts_with("../") {
        errs.push(Error::invalid(path, target, "must not start with '..'"));
    }
}

fn downward_file(item: &DownwardAPIVolumeFile, path: &Path, errs: &mut ErrorList) {
    local_path(&item.path, &path.child("path"), errs);
    match (&item.field_ref, &item.resource_field_ref) {
        (Some(field), other) => {
            env::field_ref(field, &env::VOLUME_FIELDS, &path.child("fieldRef"), errs);
            if other.is_some() {
                errs.push(Error::invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                ));
            }
        }
        (None, Some(resource)) => env::resource_field_ref(resource, true, &path.child("resourceFieldRef"), errs),
        (None, None) => errs.push(Error::required(path, "one of fieldRef and resourceFieldRef is required")),
    }
    mode(item.mode, &path.child("mode"), errs);
}

fn projected(p: &ProjectedVolumeSource, path: &Path, errs: &mut ErrorList) {
    mode(p.default_mode, &path.child("defaultMode"), errs);
    let mut taken = BTreeSet::new();
    for (path, source) in items(&p.sources, &path.child("sources")) {
        projection(source, &path, errs);
        for target in paths(source) {
            if !target.is_empty() && !taken.insert(target.to_owned()) {
                errs.push(Error::invalid(&path, target, "conflicting duplicate paths"));
            }
        }
    }
}

fn paths(p: &VolumeProjection) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    let items =
        [p.secret.as_ref().and_then(|s| s.items.as_ref()), p.config_map.as_ref().and_then(|c| c.items.as_ref())];
    all.extend(items.into_iter().flatten().flatten().map(|i| i.path.as_str()));
    all.extend(p.downward_api.iter().flat_map(|d| d.items.iter().flatten()).map(|i| i.path.as_str()));
    all.extend(p.service_account_token.iter().map(|t| t.path.as_str()));
    all.extend(p.cluster_trust_bundle.iter().map(|t| t.path.as_str()));
    all
}

fn projection(p: &VolumeProjection, path: &Path, errs: &mut ErrorList) {
    let set = [
        (p.secret.is_some(), "secret"),
        (p.config_map.is_some(), "configMap"),
        (p.downward_api.is_some(), "downwardAPI"),
        (p.service_account_token.is_some(), "serviceAccountToken"),
        (p.cluster_trust_bundle.is_some(), "clusterTrustBundle"),
        (p.pod_certificate.is_some(), "podCertificate"),
    ];
    let set: Vec<&str> = set.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    for extra in set.iter().skip(1) {
        errs.push(Error::forbidden(&path.child(extra), "may not specify more than 1 volume type per source"));
    }
    if set.is_empty() {
        errs.push(Error::required(path, "must specify a volume type"));
    }
    if let Some(secret) = &p.secret {
        required(&secret.name, &path.child("secret").child("name"), errs);
        key_items(&secret.items, &path.child("secret").child("items"), errs);
    }
    if let Some(config_map) = &p.config_map {
        required(&config_map.name, &path.child("configMap").child("name"), errs);
        key_items(&config_map.items, &path.child("configMap").child("items"), errs);
    }
    for item in p.downward_api.iter().flat_map(|d| d.items.iter().flatten()) {
        downward_file(item, &path.child("downwardAPI"), errs);
    }
    token(p, &path.child("serviceAccountToken"), errs);
}

fn token(p: &VolumeProjection, path: &Path, errs: &mut ErrorList) {
    let Some(token) = &p.service_account_token else { return };
    let seconds = token.expiration_seconds.unwrap_or(0);
    let at = path.child("expirationSeconds");
    if seconds < 600 {
        errs.push(Error::invalid(
            &at,
            json(&token.expiration_seconds),
            "may not specify a duration less than 10 minutes",
        ));
    } else if seconds > 1 << 32 {
        errs.push(Error::invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    local_path(&token.path, &path.child("path"), errs);
}
