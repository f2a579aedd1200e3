//! Deployment.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy};

use super::keep_other_half;
use crate::defaults::{fill, fill_text, percent, template};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, immutable, json, maybe_non_negative, maybe_one_of, rolling, spec, status,
    template as check, text,
};
use crate::warnings;

pub struct Rules;

impl Strategy for Rules {
    type Object = Deployment;

    fn default(&self, object: &mut Deployment) {
        let spec = object.spec.get_or_insert_with(DeploymentSpec::default);
        fill(&mut spec.replicas, 1);
        fill(&mut spec.revision_history_limit, 10);
        fill(&mut spec.progress_deadline_seconds, 600);
        let strategy = spec.strategy.get_or_insert_with(DeploymentStrategy::default);
        fill_text(&mut strategy.type_, "RollingUpdate");
        if text(&strategy.type_) == "RollingUpdate" {
            let update = strategy.rolling_update.get_or_insert_default();
            fill(&mut update.max_unavailable, percent(25));
            fill(&mut update.max_surge, percent(25));
        }
        template::template(&mut spec.template);
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut Deployment, _ctx: &Context) {
        object.status = Some(DeploymentStatus::default());
    }

    fn prepare_update(&self, new: &mut Deployment, old: &Deployment, ctx: &Context) {
        keep_other_half!(new, old, ctx);
        if ctx.status {
            new.metadata.labels.clone_from(&old.metadata.labels);
        }
    }

    fn validate_create(&self, object: &Deployment, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &Deployment, old: &Deployment, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            validate_status(new, old, &mut errs);
            return errs;
        }
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate(&new, &mut errs);
        immutable(&new.selector, &old.selector, &spec().child("selector"), &mut errs);
        errs
    }

    fn warnings(&self, object: &Deployment) -> Vec<String> {
        object.spec.as_ref().map(|s| warnings::template(&s.template, &spec().child("template"))).unwrap_or_default()
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn validate(s: &DeploymentSpec, errs: &mut ErrorList) {
    maybe_non_negative(s.replicas, &spec().child("replicas"), errs);
    check::workload(&s.selector, &s.template, &spec(), errs);
    let path = spec().child("template");
    check::template(&s.template, &path, errs);
    check::long_running(&s.template, "ReplicaSet", &path, errs);
    if let Some(strategy) = &s.strategy {
        validate_strategy(strategy, &spec().child("strategy"), errs);
    }
    maybe_non_negative(s.min_ready_seconds, &spec().child("minReadySeconds"), errs);
    maybe_non_negative(s.revision_history_limit, &spec().child("revisionHistoryLimit"), errs);
    if let Some(seconds) = s.progress_deadline_seconds {
        let path = spec().child("progressDeadlineSeconds");
        maybe_non_negative(Some(seconds), &path, errs);
        if seconds <= s.min_ready_seconds.unwrap_or(0) {
            errs.push(Error::invalid(&path, seconds, "must be greater than minReadySeconds"));
        }
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, path: &Path, errs: &mut ErrorList) {
    let at = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errs.push(Error::forbidden(&at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        ("RollingUpdate", Some(update)) => {
            let (unavailable, surge) = (update.max_unavailable.clone(), update.max_surge.clone());
            let (unavailable, surge) = (unavailable.unwrap_or_default(), surge.unwrap_or_default());
            rolling::count_or_percent(&unavailable, &at.child("maxUnavailable"), errs);
            rolling::count_or_percent(&surge, &at.child("maxSurge"), errs);
            if rolling::is_zero(&unavailable) && rolling::is_zero(&surge) {
                let detail = "may not be 0 when `maxSurge` is 0";
                errs.push(Error::invalid(&at.child("maxUnavailable"), json(&unavailable), detail));
            }
            rolling::at_most_all(&unavailable, &at.child("maxUnavailable"), errs);
        }
        ("RollingUpdate", None) => errs.push(Error::required(&at, "this should be defaulted and never be nil")),
        ("Recreate", None) => {}
        (other, _) => maybe_one_of(other, &["Recreate", "RollingUpdate"], &path.child("type"), errs),
    }
}

fn validate_status(new: &Deployment, old: &Deployment, errs: &mut ErrorList) {
    let (s, was) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let counts = [
        (s.replicas, "replicas"),
        (s.updated_replicas, "updatedReplicas"),
        (s.ready_replicas, "readyReplicas"),
        (s.available_replicas, "availableReplicas"),
        (s.unavailable_replicas, "unavailableReplicas"),
    ];
    for (count, name) in counts {
        maybe_non_negative(count, &status().child(name), errs);
    }
    let all = s.replicas.unwrap_or(0);
    for (count, name) in &counts[1..4] {
        let count = count.unwrap_or(0);
        if count > all {
            errs.push(Error::invalid(&status().child(name), count, "cannot be greater than status.replicas"));
        }
    }
    let (available, ready) = (s.available_replicas.unwrap_or(0), s.ready_replicas.unwrap_or(0));
    if available > ready {
        errs.push(Error::invalid(&status().child("availableReplicas"), available, "cannot be greater than readyReplicas"));
    }
    if let Some(count) = was.collision_count
        && s.collision_count.unwrap_or(0) < count
    {
        let now = s.collision_count.unwrap_or(0);
        errs.push(Error::invalid(&status().child("collisionCount"), now, "cannot be decremented"));
    }
}
