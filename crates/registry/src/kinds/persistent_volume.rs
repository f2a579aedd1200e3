//! PersistentVolume: where it lies is given once.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};

use super::keep_other_half;
use crate::defaults::{fill, fill_text};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, each, items, json, maybe_one_of, names, resources, selector, spec, text, volume,
};

pub(super) const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];

pub struct Rules;

impl Strategy for Rules {
    type Object = PersistentVolume;

    fn default(&self, object: &mut PersistentVolume) {
        let spec = object.spec.get_or_insert_with(PersistentVolumeSpec::default);
        fill_text(&mut spec.persistent_volume_reclaim_policy, "Retain");
        fill(&mut spec.volume_mode, "Filesystem".to_owned());
        if let Some(path) = &mut spec.host_path {
            fill(&mut path.type_, String::new());
        }
        let status = object.status.get_or_insert_with(PersistentVolumeStatus::default);
        fill_text(&mut status.phase, "Pending");
    }

    fn prepare_create(&self, object: &mut PersistentVolume, ctx: &Context) {
        object.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(ctx.now)),
            ..PersistentVolumeStatus::default()
        });
    }

    fn prepare_update(&self, new: &mut PersistentVolume, old: &PersistentVolume, ctx: &Context) {
        keep_other_half!(new, old, ctx);
        let phase = |pv: &PersistentVolume| pv.status.as_ref().and_then(|s| s.phase.clone());
        if ctx.status && phase(new) != phase(old) {
            let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(ctx.now);
            new.status.get_or_insert_default().last_phase_transition_time = Some(time);
        }
    }

    fn validate_create(&self, object: &PersistentVolume, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &PersistentVolume, old: &PersistentVolume, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            return errs;
        }
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate(&new, &mut errs);
        if source(&new) != source(&old) {
            let detail = "spec.persistentvolumesource is immutable after creation";
            errs.push(Error::forbidden(&spec().child("persistentvolumesource"), detail));
        }
        crate::validation::immutable(&new.volume_mode, &old.volume_mode, &spec().child("volumeMode"), &mut errs);
        if old.node_affinity.is_some() {
            let path = spec().child("nodeAffinity");
            crate::validation::immutable(&new.node_affinity, &old.node_affinity, &path, &mut errs);
        }
        errs
    }
}

/// The source fields as JSON: whatever is not a setting of the volume itself.
fn source(s: &PersistentVolumeSpec) -> serde_json::Value {
    let own = PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..s.clone()
    };
    json(&own)
}

fn validate(s: &PersistentVolumeSpec, errs: &mut ErrorList) {
    access_modes(&s.access_modes, &spec().child("accessModes"), errs);
    let at = spec().child("capacity");
    let capacity = s.capacity.clone().unwrap_or_default();
    if capacity.is_empty() {
        errs.push(Error::required(&at, ""));
    } else if !capacity.contains_key("storage") || capacity.len() > 1 {
        let key = capacity.keys().find(|k| *k != "storage").cloned().unwrap_or_default();
        errs.push(Error::not_supported(&at, key, &["storage"]));
    }
    for (name, quantity) in &capacity {
        positive(quantity, &at.key(name), errs);
    }
    maybe_one_of(text(&s.persistent_volume_reclaim_policy), &RECLAIM, &spec().child("persistentVolumeReclaimPolicy"), errs);
    maybe_one_of(text(&s.volume_mode), &["Block", "Filesystem"], &spec().child("volumeMode"), errs);
    if !text(&s.storage_class_name).is_empty() {
        each(names::dns_subdomain(text(&s.storage_class_name)), text(&s.storage_class_name), &spec().child("storageClassName"), errs);
    }
    if let Some(required) = s.node_affinity.as_ref().and_then(|a| a.required.as_ref()) {
        selector::node_selector(required, &spec().child("nodeAffinity").child("required"), errs);
    }
    sources(s, errs);
}

fn sources(s: &PersistentVolumeSpec, errs: &mut ErrorList) {
    let count = source(s).as_object().map_or(0, serde_json::Map::len);
    if count == 0 {
        errs.push(Error::required(&spec(), "must specify a volume type"));
    }
    if count > 1 {
        let fields = source(s);
        for name in fields.as_object().into_iter().flatten().map(|(name, _)| name).skip(1) {
            errs.push(Error::forbidden(&spec().child(name), "may not specify more than 1 volume type"));
        }
    }
    if let Some(path) = &s.host_path {
        volume::host_path(path, &spec().child("hostPath"), errs);
        if path.path == "/" && text(&s.persistent_volume_reclaim_policy) == "Recycle" {
            let detail = "may not be 'recycle' for a hostPath mount of '/'";
            errs.push(Error::forbidden(&spec().child("persistentVolumeReclaimPolicy"), detail));
        }
    }
    if s.local.is_some() && s.node_affinity.is_none() {
        errs.push(Error::required(&spec().child("nodeAffinity"), "Local volume requires node affinity"));
    }
    if let Some(csi) = &s.csi {
        crate::validation::required(&csi.driver, &spec().child("csi").child("driver"), errs);
        crate::validation::required(&csi.volume_handle, &spec().child("csi").child("volumeHandle"), errs);
    }
}

pub(super) fn access_modes(modes: &Option<Vec<String>>, path: &Path, errs: &mut ErrorList) {
    let list = modes.as_deref().unwrap_or_default();
    if list.is_empty() {
        errs.push(Error::required(path, ""));
    }
    for (_, mode) in items(modes, path) {
        if !ACCESS_MODES.contains(&mode.as_str()) {
            errs.push(Error::not_supported(path, mode.as_str(), &ACCESS_MODES));
        }
    }
    if list.len() > 1 && list.iter().any(|m| m == "ReadWriteOncePod") {
        errs.push(Error::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

pub(super) fn positive(
    quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    path: &Path,
    errs: &mut ErrorList,
) {
    if resources::value(&quantity.0).is_some_and(|v| v.is_negative() || v.is_zero()) {
        errs.push(Error::invalid(path, quantity.0.as_str(), "must be greater than zero"));
    }
}
