//! CSIDriver: how a driver wants to be treated.

use std::collections::BTreeSet;

use k8s_openapi::api::storage::v1::{CSIDriver, TokenRequest};

use crate::defaults::fill;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, immutable, items, maybe_one_of, one_of, spec, text};

const MIN_TOKEN_SECONDS: i64 = 10 * 60;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;
const MIN_UPDATE_SECONDS: i64 = 10;
const LIFECYCLE_MODES: [&str; 2] = ["Ephemeral", "Persistent"];
const GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];

pub struct Rules;

impl Strategy for Rules {
    type Object = CSIDriver;

    fn default(&self, object: &mut CSIDriver) {
        let spec = &mut object.spec;
        fill(&mut spec.attach_required, true);
        fill(&mut spec.pod_info_on_mount, false);
        fill(&mut spec.storage_capacity, false);
        fill(&mut spec.requires_republish, false);
        fill(&mut spec.se_linux_mount, false);
        fill(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType".to_owned());
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
    }

    fn validate_create(&self, object: &CSIDriver, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let of = &object.spec;
        let flags = [
            (of.attach_required, "attachRequired"),
            (of.pod_info_on_mount, "podInfoOnMount"),
            (of.storage_capacity, "storageCapacity"),
        ];
        for (_, field) in flags.iter().filter(|(flag, _)| flag.is_none()) {
            errs.push(Error::required(&spec().child(field), &format!("{field} is required")));
        }
        one_of(text(&of.fs_group_policy), &GROUP_POLICIES, &spec().child("fsGroupPolicy"), &mut errs);
        token_requests(&of.token_requests, &spec().child("tokenRequests"), &mut errs);
        for mode in of.volume_lifecycle_modes.iter().flatten() {
            maybe_one_of(mode, &LIFECYCLE_MODES, &spec().child("volumeLifecycleModes"), &mut errs);
        }
        if let Some(seconds) = of.node_allocatable_update_period_seconds.filter(|s| *s < MIN_UPDATE_SECONDS) {
            let detail = format!("must be greater than or equal to {MIN_UPDATE_SECONDS} seconds");
            errs.push(Error::invalid(&spec().child("nodeAllocatableUpdatePeriodSeconds"), seconds, &detail));
        }
        errs
    }

    fn validate_update(&self, new: &CSIDriver, old: &CSIDriver, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        // Upstream's own name for the field.
        let path = spec().child("attachedRequired");
        immutable(&new.spec.attach_required, &old.spec.attach_required, &path, &mut errs);
        let modes = (&new.spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
        immutable(modes.0, modes.1, &spec().child("volumeLifecycleModes"), &mut errs);
        errs
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn token_requests(requests: &Option<Vec<TokenRequest>>, path: &Path, errs: &mut ErrorList) {
    let mut audiences = BTreeSet::new();
    for (path, request) in items(requests, path) {
        if !audiences.insert(request.audience.as_str()) {
            errs.push(Error::duplicate(&path.child("audience"), request.audience.as_str()));
        }
        let Some(seconds) = request.expiration_seconds else { continue };
        let path = path.child("expirationSeconds");
        if seconds < MIN_TOKEN_SECONDS {
            errs.push(Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > MAX_TOKEN_SECONDS {
            errs.push(Error::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
    }
}
