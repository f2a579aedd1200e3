//! PersistentVolumeClaim: what is asked for is given once; a bound claim may ask for more room.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus};

use super::keep_other_half;
use super::persistent_volume::{access_modes, positive};
use crate::defaults::{fill_text, volume};
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, maybe_one_of, names, resources, selector, spec, text};

const ONLY: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

pub struct Rules;

impl Strategy for Rules {
    type Object = PersistentVolumeClaim;

    fn default(&self, object: &mut PersistentVolumeClaim) {
        volume::claim_spec(object.spec.get_or_insert_with(PersistentVolumeClaimSpec::default));
        let status = object.status.get_or_insert_with(PersistentVolumeClaimStatus::default);
        fill_text(&mut status.phase, "Pending");
    }

    fn prepare_create(&self, object: &mut PersistentVolumeClaim, _ctx: &Context) {
        let phase = Some("Pending".to_owned());
        object.status = Some(PersistentVolumeClaimStatus { phase, ..PersistentVolumeClaimStatus::default() });
    }

    fn prepare_update(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &PersistentVolumeClaim, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        claim_spec(&object.spec.clone().unwrap_or_default(), &spec(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            return errs;
        }
        let bound = old.status.as_ref().is_some_and(|s| text(&s.phase) == "Bound");
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        claim_spec(&new, &spec(), &mut errs);
        if masked(&new, &old, bound) != old {
            errs.push(Error::forbidden(&spec(), ONLY));
        }
        shrunk(&new, &old, &mut errs);
        errs
    }
}

/// The new spec with what may change put back: the volume while none is bound, the class while none is set, the size.
fn masked(new: &PersistentVolumeClaimSpec, old: &PersistentVolumeClaimSpec, bound: bool) -> PersistentVolumeClaimSpec {
    let mut spec = new.clone();
    if text(&old.volume_name).is_empty() {
        spec.volume_name.clone_from(&old.volume_name);
    }
    if old.storage_class_name.is_none() {
        spec.storage_class_name = None;
    }
    if bound && let (Some(now), Some(was)) = (&mut spec.resources, &old.resources) {
        now.requests.clone_from(&was.requests);
    }
    spec.volume_attributes_class_name.clone_from(&old.volume_attributes_class_name);
    spec
}

fn shrunk(new: &PersistentVolumeClaimSpec, old: &PersistentVolumeClaimSpec, errs: &mut ErrorList) {
    let size = |s: &PersistentVolumeClaimSpec| {
        let requests = s.resources.as_ref()?.requests.as_ref()?;
        resources::value(&requests.get("storage")?.0)
    };
    if let (Some(now), Some(was)) = (size(new), size(old))
        && now < was
    {
        let path = spec().child("resources").child("requests").child("storage");
        errs.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
}

/// Also for the claims of StatefulSets and ephemeral volumes.
pub(crate) fn claim_spec(s: &PersistentVolumeClaimSpec, path: &Path, errs: &mut ErrorList) {
    access_modes_required(s, &path.child("accessModes"), errs);
    if let Some(selector) = &s.selector {
        selector::label_selector(selector, &path.child("selector"), errs);
    }
    let at = path.child("resources");
    match s.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get("storage")) {
        None => errs.push(Error::required(&at.key("storage"), "")),
        Some(quantity) => {
            positive(quantity, &at.key("storage"), errs);
        }
    }
    if let Some(class) = s.storage_class_name.as_deref().filter(|c| !c.is_empty()) {
        each(names::dns_subdomain(class), class, &path.child("storageClassName"), errs);
    }
    maybe_one_of(text(&s.volume_mode), &["Block", "Filesystem"], &path.child("volumeMode"), errs);
}

fn access_modes_required(s: &PersistentVolumeClaimSpec, path: &Path, errs: &mut ErrorList) {
    if s.access_modes.as_ref().is_none_or(Vec::is_empty) {
        errs.push(Error::required(path, "at least 1 access mode is required"));
    } else {
        access_modes(&s.access_modes, path, errs);
    }
}
