//! PodDisruptionBudget.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};

use super::keep_other_half;
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, json, maybe_non_negative, maybe_one_of, rolling, selector, spec, status, text,
};

pub struct Rules;

impl Strategy for Rules {
    type Object = PodDisruptionBudget;

    fn default(&self, object: &mut PodDisruptionBudget) {
        object.spec.get_or_insert_default();
        counted(object.status.get_or_insert_default());
    }

    fn prepare_create(&self, object: &mut PodDisruptionBudget, _ctx: &Context) {
        let mut status = PodDisruptionBudgetStatus::default();
        counted(&mut status);
        object.status = Some(status);
    }

    fn prepare_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &PodDisruptionBudget, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &PodDisruptionBudget, _old: &PodDisruptionBudget, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if !ctx.status {
            validate(&new.spec.clone().unwrap_or_default(), &mut errs);
            return errs;
        }
        let s = new.status.clone().unwrap_or_default();
        let counts = [
            (s.disruptions_allowed, "disruptionsAllowed"),
            (s.current_healthy, "currentHealthy"),
            (s.desired_healthy, "desiredHealthy"),
            (s.expected_pods, "expectedPods"),
        ];
        for (count, name) in counts {
            maybe_non_negative(count, &status().child(name), &mut errs);
        }
        errs
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// Upstream writes these four out, zero or not.
fn counted(status: &mut PodDisruptionBudgetStatus) {
    for count in [
        &mut status.disruptions_allowed,
        &mut status.current_healthy,
        &mut status.desired_healthy,
        &mut status.expected_pods,
    ] {
        crate::defaults::fill(count, 0);
    }
}

fn validate(s: &PodDisruptionBudgetSpec, errs: &mut ErrorList) {
    if s.min_available.is_some() && s.max_unavailable.is_some() {
        errs.push(Error::invalid(&spec(), json(s), "minAvailable and maxUnavailable cannot be both set"));
    }
    for (value, name) in [(&s.min_available, "minAvailable"), (&s.max_unavailable, "maxUnavailable")] {
        if let Some(value) = value {
            rolling::count_or_percent(value, &spec().child(name), errs);
            rolling::at_most_all(value, &spec().child(name), errs);
        }
    }
    if let Some(s) = &s.selector {
        selector::label_selector(s, &spec().child("selector"), errs);
    }
    let policy = text(&s.unhealthy_pod_eviction_policy);
    maybe_one_of(policy, &["AlwaysAllow", "IfHealthyBudget"], &spec().child("unhealthyPodEvictionPolicy"), errs);
}
