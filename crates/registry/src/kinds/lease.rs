//! Lease: the heartbeat of a node, the seat of a leader.

use k8s_openapi::api::coordination::v1::Lease;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, maybe_non_negative, maybe_one_of, spec, text};

pub struct Rules;

impl Strategy for Rules {
    type Object = Lease;

    fn default(&self, object: &mut Lease) {
        object.spec.get_or_insert_default();
    }

    fn validate_create(&self, object: &Lease, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let Some(lease) = &object.spec else { return errs };
        if let Some(seconds) = lease.lease_duration_seconds.filter(|s| *s <= 0) {
            errs.push(Error::invalid(&spec().child("leaseDurationSeconds"), seconds, "must be greater than 0"));
        }
        maybe_non_negative(lease.lease_transitions, &spec().child("leaseTransitions"), &mut errs);
        maybe_one_of(text(&lease.strategy), &["OldestEmulationVersion"], &spec().child("strategy"), &mut errs);
        if !text(&lease.preferred_holder).is_empty() && text(&lease.strategy).is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            errs.push(Error::forbidden(&spec().child("preferredHolder"), detail));
        }
        errs
    }

    fn validate_update(&self, new: &Lease, _old: &Lease, ctx: &Context) -> ErrorList {
        Strategy::validate_create(self, new, ctx)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
