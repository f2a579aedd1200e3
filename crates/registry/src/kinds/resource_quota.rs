//! ResourceQuota.

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};

use super::keep_other_half;
use crate::strategy::{Context, Strategy};
use crate::validation::resources::{self, ResourceList};
use crate::validation::{Error, ErrorList, Path, immutable, items, json, one_of, spec, status};

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

pub struct Rules;

impl Strategy for Rules {
    type Object = ResourceQuota;

    fn default(&self, object: &mut ResourceQuota) {
        object.spec.get_or_insert_with(ResourceQuotaSpec::default);
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut ResourceQuota, _ctx: &Context) {
        object.status = Some(ResourceQuotaStatus::default());
    }

    fn prepare_update(&self, new: &mut ResourceQuota, old: &ResourceQuota, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &ResourceQuota, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &ResourceQuota, old: &ResourceQuota, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            let s = new.status.clone().unwrap_or_default();
            amounts(&s.hard, &status().child("hard"), &mut errs);
            amounts(&s.used, &status().child("used"), &mut errs);
            return errs;
        }
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate(&new, &mut errs);
        immutable(&new.scopes, &old.scopes, &spec().child("scopes"), &mut errs);
        immutable(&new.scope_selector, &old.scope_selector, &spec().child("scopeSelector"), &mut errs);
        errs
    }
}

fn validate(s: &ResourceQuotaSpec, errs: &mut ErrorList) {
    amounts(&s.hard, &spec().child("hard"), errs);
    let path = spec().child("scopes");
    for (_, scope) in items(&s.scopes, &path) {
        if !SCOPES.contains(&scope.as_str()) {
            errs.push(Error::invalid(&path, json(&s.scopes), "unsupported scope"));
        }
    }
    let held = |scope: &str| s.scopes.iter().flatten().any(|s| s == scope);
    if (held("BestEffort") && held("NotBestEffort")) || (held("Terminating") && held("NotTerminating")) {
        errs.push(Error::invalid(&path, json(&s.scopes), "conflicting scopes"));
    }
    let path = spec().child("scopeSelector").child("matchExpressions");
    let expressions = s.scope_selector.as_ref().and_then(|s| s.match_expressions.clone());
    for (path, e) in items(&expressions, &path) {
        one_of(&e.scope_name, &SCOPES, &path.child("scopeName"), errs);
        let values = e.values.as_ref().map_or(0, Vec::len);
        match e.operator.as_str() {
            "In" | "NotIn" if values == 0 => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errs.push(Error::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errs.push(Error::invalid(&path.child("values"), json(&e.values), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errs.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
        }
    }
}

fn amounts(list: &Option<ResourceList>, path: &Path, errs: &mut ErrorList) {
    for (name, quantity) in list.iter().flatten() {
        let path = path.key(name);
        resources::resource_name(name, &path, errs);
        resources::quantity(name, quantity, &path, errs);
    }
}
