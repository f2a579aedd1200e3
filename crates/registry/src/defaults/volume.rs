//! Volumes: file modes, types and the old drivers' own defaults.

use k8s_openapi::api::core::v1::{
    AzureDiskVolumeSource, DownwardAPIVolumeFile, PersistentVolumeClaimSpec, RBDVolumeSource, Volume, VolumeProjection,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{fill, fill_text};

/// 0644
const FILE_MODE: i32 = 0o644;

pub fn volume(v: &mut Volume) {
    if let Some(secret) = &mut v.secret {
        fill(&mut secret.default_mode, FILE_MODE);
    }
    if let Some(config_map) = &mut v.config_map {
        fill(&mut config_map.default_mode, FILE_MODE);
    }
    if let Some(downward) = &mut v.downward_api {
        fill(&mut downward.default_mode, FILE_MODE);
        downward.items.iter_mut().flatten().for_each(downward_item);
    }
    if let Some(projected) = &mut v.projected {
        fill(&mut projected.default_mode, FILE_MODE);
        projected.sources.iter_mut().flatten().for_each(projection);
    }
    if let Some(path) = &mut v.host_path {
        fill(&mut path.type_, String::new());
    }
    if let Some(template) = v.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut()) {
        fill(&mut template.metadata, ObjectMeta::default());
        claim_spec(&mut template.spec);
    }
    if let Some(image) = &mut v.image {
        let policy = super::container::pull_policy_of(image.reference.as_deref().unwrap_or_default());
        fill_text(&mut image.pull_policy, policy);
    }
    old_drivers(v);
    if !has_source(v) {
        v.empty_dir = Some(Default::default());
    }
}

/// Upstream takes a volume that names no source for an emptyDir.
fn has_source(v: &Volume) -> bool {
    !crate::validation::volume::sources(v).is_empty()
}

fn projection(p: &mut VolumeProjection) {
    if let Some(downward) = &mut p.downward_api {
        downward.items.iter_mut().flatten().for_each(downward_item);
    }
    if let Some(token) = &mut p.service_account_token {
        fill(&mut token.expiration_seconds, 60 * 60);
    }
    if let Some(certificate) = &mut p.pod_certificate {
        fill(&mut certificate.max_expiration_seconds, 24 * 60 * 60);
    }
}

fn downward_item(item: &mut DownwardAPIVolumeFile) {
    if let Some(field) = &mut item.field_ref {
        fill_text(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut item.resource_field_ref {
        fill(&mut resource.divisor, super::zero());
    }
}

pub fn claim_spec(spec: &mut PersistentVolumeClaimSpec) {
    fill(&mut spec.volume_mode, "Filesystem".to_owned());
    fill(&mut spec.resources, VolumeResourceRequirements::default());
    // The two name the same thing for local types; each fills the other.
    if let (Some(source), None) = (&spec.data_source, &spec.data_source_ref) {
        spec.data_source_ref = Some(k8s_openapi::api::core::v1::TypedObjectReference {
            api_group: source.api_group.clone(),
            kind: source.kind.clone(),
            name: source.name.clone(),
            namespace: None,
        });
    } else if let (None, Some(reference)) = (&spec.data_source, &spec.data_source_ref)
        && reference.namespace.as_deref().unwrap_or_default().is_empty()
    {
        spec.data_source = Some(k8s_openapi::api::core::v1::TypedLocalObjectReference {
            api_group: reference.api_group.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
        });
    }
}

fn old_drivers(v: &mut Volume) {
    if let Some(iscsi) = &mut v.iscsi {
        fill_text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut v.rbd {
        rados(rbd);
    }
    if let Some(disk) = &mut v.azure_disk {
        azure_disk(disk);
    }
    if let Some(scale_io) = &mut v.scale_io {
        fill_text(&mut scale_io.storage_mode, "ThinProvisioned");
        fill_text(&mut scale_io.fs_type, "xfs");
    }
}

fn rados(rbd: &mut RBDVolumeSource) {
    fill_text(&mut rbd.pool, "rbd");
    fill_text(&mut rbd.user, "admin");
    fill_text(&mut rbd.keyring, "/etc/ceph/keyring");
}

fn azure_disk(disk: &mut AzureDiskVolumeSource) {
    fill(&mut disk.caching_mode, "ReadWrite".to_owned());
    fill(&mut disk.kind, "Shared".to_owned());
    fill(&mut disk.fs_type, "ext4".to_owned());
    fill(&mut disk.read_only, false);
}
