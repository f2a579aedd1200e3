//! LimitRange: defaults and bounds for what containers, pods and claims ask for.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec};

use crate::strategy::{Context, Strategy};
use crate::validation::resources::{self, ResourceList};
use crate::validation::{Error, ErrorList, Path, each, names, spec};

pub struct Rules;

impl Strategy for Rules {
    type Object = LimitRange;

    fn default(&self, object: &mut LimitRange) {
        for item in &mut object.spec.get_or_insert_with(LimitRangeSpec::default).limits {
            if item.type_ == "Container" {
                container_defaults(item);
            }
        }
    }

    fn validate_create(&self, object: &LimitRange, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let mut seen = BTreeSet::new();
        for (i, item) in object.spec.iter().flat_map(|s| &s.limits).enumerate() {
            let path = spec().child("limits").index(i);
            let messages = names::qualified_name(&item.type_);
            each(messages, &item.type_, &path.child("type"), &mut errs);
            if !seen.insert(item.type_.as_str()) {
                errs.push(Error::duplicate(&path.child("type"), item.type_.as_str()));
            }
            validate(item, &path, &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &LimitRange, _old: &LimitRange, ctx: &Context) -> ErrorList {
        Strategy::validate_create(self, new, ctx)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// The default limit falls back to the maximum, the default request to the limit, then to the minimum.
fn container_defaults(item: &mut LimitRangeItem) {
    let merge = |into: &mut ResourceList, from: &Option<ResourceList>| {
        for (name, quantity) in from.iter().flatten() {
            into.entry(name.clone()).or_insert_with(|| quantity.clone());
        }
    };
    let mut limits = item.default.take().unwrap_or_default();
    merge(&mut limits, &item.max);
    let limits = Some(limits);
    let mut requests = item.default_request.take().unwrap_or_default();
    merge(&mut requests, &limits);
    merge(&mut requests, &item.min);
    item.default = limits.filter(|l| !l.is_empty());
    item.default_request = Some(requests).filter(|r| !r.is_empty());
}

fn validate(item: &LimitRangeItem, path: &Path, errs: &mut ErrorList) {
    let lists = [
        (&item.max, "max"),
        (&item.min, "min"),
        (&item.default, "default"),
        (&item.default_request, "defaultRequest"),
        (&item.max_limit_request_ratio, "maxLimitRequestRatio"),
    ];
    for (list, field) in lists {
        for name in list.iter().flatten().map(|(name, _)| name) {
            resources::resource_name(name, &path.child(field).key(name), errs);
        }
    }
    if item.type_ == "Pod" {
        for (list, field) in [(&item.default, "default"), (&item.default_request, "defaultRequest")] {
            if list.as_ref().is_some_and(|l| !l.is_empty()) {
                errs.push(Error::forbidden(&path.child(field), "may not be specified when `type` is 'Pod'"));
            }
        }
    }
    ordered(item, path, errs);
}

/// Every lower bound lies below every upper one.
fn ordered(item: &LimitRangeItem, path: &Path, errs: &mut ErrorList) {
    let pairs = [
        (&item.min, "min", &item.max, "max"),
        (&item.min, "min", &item.default_request, "default request"),
        (&item.default_request, "default request", &item.max, "max"),
        (&item.default_request, "default request", &item.default, "default"),
        (&item.default, "default", &item.max, "max"),
    ];
    for (low, low_name, high, high_name) in pairs {
        for (name, quantity) in low.iter().flatten() {
            let Some(bound) = high.as_ref().and_then(|h| h.get(name)) else { continue };
            let (Some(a), Some(b)) = (resources::value(&quantity.0), resources::value(&bound.0)) else { continue };
            if a > b {
                let field = if low_name == "default request" { "defaultRequest" } else { low_name };
                let detail = format!("{low_name} value {} is greater than {high_name} value {}", quantity.0, bound.0);
                errs.push(Error::invalid(&path.child(field).key(name), quantity.0.as_str(), &detail));
            }
        }
    }
}
