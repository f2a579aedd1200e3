//! StatefulSet. Its pods mount what its claim templates make, so those count as volumes of the template.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetStatus,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimStatus, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume,
};

use super::{keep_other_half, persistent_volume_claim};
use crate::defaults::{fill, fill_text, template, volume};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, items, json, maybe_non_negative, non_negative, one_of, rolling, spec, status,
    template as check, text,
};
use crate::warnings;

const ONLY: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

pub struct Rules;

impl Strategy for Rules {
    type Object = StatefulSet;

    fn default(&self, object: &mut StatefulSet) {
        let spec = object.spec.get_or_insert_with(StatefulSetSpec::default);
        fill_text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_with(StatefulSetUpdateStrategy::default);
        if text(&strategy.type_).is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
            fill(&mut strategy.rolling_update, Default::default());
        }
        if let (Some("RollingUpdate"), Some(update)) = (strategy.type_.as_deref(), &mut strategy.rolling_update) {
            fill(&mut update.partition, 0);
        }
        fill(&mut spec.persistent_volume_claim_retention_policy, Default::default());
        if let Some(policy) = &mut spec.persistent_volume_claim_retention_policy {
            fill_text(&mut policy.when_deleted, "Retain");
            fill_text(&mut policy.when_scaled, "Retain");
        }
        fill(&mut spec.replicas, 1);
        fill(&mut spec.revision_history_limit, 10);
        template::template(&mut spec.template);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            volume::claim_spec(claim.spec.get_or_insert_default());
            let status = claim.status.get_or_insert_with(PersistentVolumeClaimStatus::default);
            fill_text(&mut status.phase, "Pending");
        }
        let status = object.status.get_or_insert_default();
        fill(&mut status.available_replicas, 0);
    }

    fn prepare_create(&self, object: &mut StatefulSet, _ctx: &Context) {
        object.status = Some(StatefulSetStatus { available_replicas: Some(0), ..StatefulSetStatus::default() });
    }

    fn prepare_update(&self, new: &mut StatefulSet, old: &StatefulSet, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &StatefulSet, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &StatefulSet, old: &StatefulSet, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            validate_status(new, old, &mut errs);
            return errs;
        }
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate(&new, &mut errs);
        if masked(&new, &old) != old {
            errs.push(Error::forbidden(&spec(), ONLY));
        }
        errs
    }

    fn warnings(&self, object: &StatefulSet) -> Vec<String> {
        object.spec.as_ref().map(|s| warnings::template(&s.template, &spec().child("template"))).unwrap_or_default()
    }

    fn has_generation(&self) -> bool {
        true
    }
}

/// The new spec with everything that may change put back.
fn masked(new: &StatefulSetSpec, old: &StatefulSetSpec) -> StatefulSetSpec {
    StatefulSetSpec {
        selector: new.selector.clone(),
        service_name: new.service_name.clone(),
        pod_management_policy: new.pod_management_policy.clone(),
        volume_claim_templates: new.volume_claim_templates.clone(),
        ..old.clone()
    }
}

fn validate(s: &StatefulSetSpec, errs: &mut ErrorList) {
    let policy = text(&s.pod_management_policy);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errs.push(Error::invalid(&spec().child("podManagementPolicy"), policy, detail));
    }
    if let Some(strategy) = &s.update_strategy {
        validate_strategy(strategy, &spec().child("updateStrategy"), errs);
    }
    retention(&s.persistent_volume_claim_retention_policy, &spec().child("persistentVolumeClaimRetentionPolicy"), errs);
    maybe_non_negative(s.replicas, &spec().child("replicas"), errs);
    maybe_non_negative(s.min_ready_seconds, &spec().child("minReadySeconds"), errs);
    let start = s.ordinals.as_ref().and_then(|o| o.start);
    maybe_non_negative(start, &spec().child("ordinals").child("start"), errs);
    maybe_non_negative(s.revision_history_limit, &spec().child("revisionHistoryLimit"), errs);
    check::workload(&s.selector, &s.template, &spec(), errs);
    let path = spec().child("template");
    check::template(&with_claims(s), &path, errs);
    check::long_running(&s.template, "StatefulSet", &path, errs);
    for (path, claim) in items(&s.volume_claim_templates, &spec().child("volumeClaimTemplates")) {
        let claim = claim.spec.clone().unwrap_or_default();
        persistent_volume_claim::claim_spec(&claim, &path.child("spec"), errs);
    }
}

fn with_claims(s: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = s.template.clone();
    let volumes = template.spec.get_or_insert_default().volumes.get_or_insert_default();
    for claim in s.volume_claim_templates.iter().flatten() {
        let name = claim.metadata.name.clone().unwrap_or_default();
        volumes.retain(|v| v.name != name);
        let source = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), ..Default::default() };
        volumes.push(Volume { name, persistent_volume_claim: Some(source), ..Volume::default() });
    }
    template
}

fn validate_strategy(strategy: &StatefulSetUpdateStrategy, path: &Path, errs: &mut ErrorList) {
    let at = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", Some(update)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errs.push(Error::invalid(&at, json(update), detail));
        }
        ("RollingUpdate", Some(update)) => {
            maybe_non_negative(update.partition, &at.child("partition"), errs);
            if let Some(unavailable) = &update.max_unavailable {
                let at = at.child("maxUnavailable");
                rolling::count_or_percent(unavailable, &at, errs);
                if rolling::is_zero(unavailable) {
                    errs.push(Error::invalid(&at, json(unavailable), "cannot be 0"));
                }
                rolling::at_most_all(unavailable, &at, errs);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => errs.push(Error::invalid(path, json(strategy), "must be 'RollingUpdate' or 'OnDelete'")),
    }
}

fn retention(
    policy: &Option<StatefulSetPersistentVolumeClaimRetentionPolicy>,
    path: &Path,
    errs: &mut ErrorList,
) {
    let Some(policy) = policy else { return };
    for (value, name) in [(&policy.when_deleted, "whenDeleted"), (&policy.when_scaled, "whenScaled")] {
        one_of(text(value), &["Delete", "Retain"], &path.child(name), errs);
    }
}

fn validate_status(new: &StatefulSet, old: &StatefulSet, errs: &mut ErrorList) {
    let (s, was) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let parts = [
        (s.ready_replicas, "readyReplicas"),
        (s.current_replicas, "currentReplicas"),
        (s.updated_replicas, "updatedReplicas"),
        (s.available_replicas, "availableReplicas"),
    ];
    non_negative(s.replicas, &status().child("replicas"), errs);
    for (count, name) in parts {
        maybe_non_negative(count, &status().child(name), errs);
        if count.unwrap_or(0) > s.replicas {
            let detail = "cannot be greater than status.replicas";
            errs.push(Error::invalid(&status().child(name), count.unwrap_or(0), detail));
        }
    }
    let (available, ready) = (s.available_replicas.unwrap_or(0), s.ready_replicas.unwrap_or(0));
    if available > ready {
        let detail = "cannot be greater than status.readyReplicas";
        errs.push(Error::invalid(&status().child("availableReplicas"), available, detail));
    }
    if s.collision_count.unwrap_or(0) < was.collision_count.unwrap_or(0) {
        let now = s.collision_count.unwrap_or(0);
        errs.push(Error::invalid(&status().child("collisionCount"), now, "cannot be decremented"));
    }
}
