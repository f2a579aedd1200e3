//! DaemonSet.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::keep_other_half;
use crate::defaults::{fill, fill_text, template};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, immutable, json, maybe_non_negative, non_negative, rolling, spec, status,
    template as check, text,
};
use crate::warnings;

pub struct Rules;

impl Strategy for Rules {
    type Object = DaemonSet;

    fn default(&self, object: &mut DaemonSet) {
        let spec = object.spec.get_or_insert_with(DaemonSetSpec::default);
        let strategy = spec.update_strategy.get_or_insert_with(DaemonSetUpdateStrategy::default);
        fill_text(&mut strategy.type_, "RollingUpdate");
        if text(&strategy.type_) == "RollingUpdate" {
            let update = strategy.rolling_update.get_or_insert_default();
            fill(&mut update.max_unavailable, IntOrString::Int(1));
            fill(&mut update.max_surge, IntOrString::Int(0));
        }
        fill(&mut spec.revision_history_limit, 10);
        template::template(&mut spec.template);
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut DaemonSet, _ctx: &Context) {
        object.status = Some(DaemonSetStatus::default());
    }

    fn prepare_update(&self, new: &mut DaemonSet, old: &DaemonSet, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &DaemonSet, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &DaemonSet, old: &DaemonSet, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            validate_status(&new.status.clone().unwrap_or_default(), &mut errs);
            return errs;
        }
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate(&new, &mut errs);
        immutable(&new.selector, &old.selector, &spec().child("selector"), &mut errs);
        errs
    }

    fn warnings(&self, object: &DaemonSet) -> Vec<String> {
        object.spec.as_ref().map(|s| warnings::template(&s.template, &spec().child("template"))).unwrap_or_default()
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn validate(s: &DaemonSetSpec, errs: &mut ErrorList) {
    check::workload(&s.selector, &s.template, &spec(), errs);
    let path = spec().child("template");
    check::template(&s.template, &path, errs);
    check::long_running(&s.template, "DaemonSet", &path, errs);
    maybe_non_negative(s.min_ready_seconds, &spec().child("minReadySeconds"), errs);
    if let Some(strategy) = &s.update_strategy {
        validate_strategy(strategy, &spec().child("updateStrategy"), errs);
    }
    maybe_non_negative(s.revision_history_limit, &spec().child("revisionHistoryLimit"), errs);
}

/// A node runs an extra pod or loses one while it is updated: one of the two, never both.
fn validate_strategy(strategy: &DaemonSetUpdateStrategy, path: &Path, errs: &mut ErrorList) {
    match text(&strategy.type_) {
        "OnDelete" => return,
        "RollingUpdate" => {}
        other => {
            errs.push(Error::not_supported(&path.child("type"), other, &["OnDelete", "RollingUpdate"]));
            return;
        }
    }
    let path = path.child("rollingUpdate");
    let Some(update) = &strategy.rolling_update else {
        errs.push(Error::required(&path, ""));
        return;
    };
    let unavailable = update.max_unavailable.clone().unwrap_or_default();
    let surge = update.max_surge.clone().unwrap_or_default();
    for (value, name) in [(&unavailable, "maxUnavailable"), (&surge, "maxSurge")] {
        rolling::count_or_percent(value, &path.child(name), errs);
        rolling::at_most_all(value, &path.child(name), errs);
    }
    match (rolling::is_zero(&unavailable), rolling::is_zero(&surge)) {
        (false, false) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errs.push(Error::invalid(&path.child("maxSurge"), json(&surge), detail));
        }
        (true, true) => errs.push(Error::required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

fn validate_status(s: &DaemonSetStatus, errs: &mut ErrorList) {
    let counts = [
        (s.current_number_scheduled, "currentNumberScheduled"),
        (s.number_misscheduled, "numberMisscheduled"),
        (s.desired_number_scheduled, "desiredNumberScheduled"),
        (s.number_ready, "numberReady"),
        (s.updated_number_scheduled.unwrap_or(0), "updatedNumberScheduled"),
        (s.number_available.unwrap_or(0), "numberAvailable"),
        (s.number_unavailable.unwrap_or(0), "numberUnavailable"),
    ];
    for (count, name) in counts {
        non_negative(count, &status().child(name), errs);
    }
}
