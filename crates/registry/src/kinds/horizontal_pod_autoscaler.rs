//! HorizontalPodAutoscaler, in its second version.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricSpec, MetricTarget, ResourceMetricSource,
};

use super::keep_other_half;
use crate::defaults::fill;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, items, one_of, required, resources, spec};

const TARGET_UTILIZATION: i32 = 80;
const MAX_WINDOW_SECONDS: i32 = 3600;
const MAX_PERIOD_SECONDS: i32 = 1800;

pub struct Rules;

impl Strategy for Rules {
    type Object = HorizontalPodAutoscaler;

    fn default(&self, object: &mut HorizontalPodAutoscaler) {
        fill(&mut object.spec.min_replicas, 1);
        if object.spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            object.spec.metrics = Some(vec![processor_use()]);
        }
        if let Some(behavior) = &mut object.spec.behavior {
            let up = behavior.scale_up.get_or_insert_default();
            fill(&mut up.stabilization_window_seconds, 0);
            scaling(up, &[("Pods", 4), ("Percent", 100)]);
            scaling(behavior.scale_down.get_or_insert_default(), &[("Percent", 100)]);
        }
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut HorizontalPodAutoscaler, _ctx: &Context) {
        object.status = Some(HorizontalPodAutoscalerStatus::default());
    }

    fn prepare_update(&self, new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &HorizontalPodAutoscaler, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec, &mut errs);
        errs
    }

    fn validate_update(
        &self,
        new: &HorizontalPodAutoscaler,
        _old: &HorizontalPodAutoscaler,
        ctx: &Context,
    ) -> ErrorList {
        if ctx.status { ErrorList::new() } else { Strategy::validate_create(self, new, ctx) }
    }
}

fn processor_use() -> MetricSpec {
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(TARGET_UTILIZATION),
        ..MetricTarget::default()
    };
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..MetricSpec::default()
    }
}

fn scaling(rules: &mut HPAScalingRules, policies: &[(&str, i32)]) {
    fill(&mut rules.select_policy, "Max".to_owned());
    if rules.policies.is_none() {
        let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy {
            type_: (*kind).to_owned(),
            value: *value,
            period_seconds: 15,
        };
        rules.policies = Some(policies.iter().map(policy).collect());
    }
}

fn validate(s: &HorizontalPodAutoscalerSpec, errs: &mut ErrorList) {
    let (min, max) = (s.min_replicas.unwrap_or(1), s.max_replicas);
    let scales_to_zero = s.metrics.iter().flatten().any(|m| matches!(m.type_.as_str(), "Object" | "External"));
    let least = if scales_to_zero { 0 } else { 1 };
    if min < least {
        let detail = format!("must be greater than or equal to {least}");
        errs.push(Error::invalid(&spec().child("minReplicas"), min, &detail));
    }
    if max < 1 {
        errs.push(Error::invalid(&spec().child("maxReplicas"), max, "must be greater than 0"));
    }
    if max < min {
        let detail = "must be greater than or equal to `minReplicas`";
        errs.push(Error::invalid(&spec().child("maxReplicas"), max, detail));
    }
    reference(&s.scale_target_ref, &spec().child("scaleTargetRef"), errs);
    for (path, m) in items(&s.metrics, &spec().child("metrics")) {
        metric(m, &path, errs);
    }
    if let Some(behavior) = &s.behavior {
        let path = spec().child("behavior");
        if let Some(rules) = &behavior.scale_up {
            scaling_rules(rules, &path.child("scaleUp"), errs);
        }
        if let Some(rules) = &behavior.scale_down {
            scaling_rules(rules, &path.child("scaleDown"), errs);
        }
    }
}

fn reference(r: &CrossVersionObjectReference, path: &Path, errs: &mut ErrorList) {
    for (value, name) in [(&r.kind, "kind"), (&r.name, "name")] {
        if value.is_empty() {
            errs.push(Error::required(&path.child(name), ""));
        } else {
            each(api::names::path_segment(value, false), value, &path.child(name), errs);
        }
    }
}

fn metric(m: &MetricSpec, path: &Path, errs: &mut ErrorList) {
    let types = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    one_of(&m.type_, &types, &path.child("type"), errs);
    let set = [
        (m.object.is_some(), "object", "Object"),
        (m.pods.is_some(), "pods", "Pods"),
        (m.resource.is_some(), "resource", "Resource"),
        (m.container_resource.is_some(), "containerResource", "ContainerResource"),
        (m.external.is_some(), "external", "External"),
    ];
    for (is_set, field, kind) in set {
        if !is_set && kind == m.type_ {
            let detail = "must populate information for the given metric source";
            errs.push(Error::required(&path.child(field), detail));
        } else if is_set && kind != m.type_ {
            let detail = "must populate the given metric source only";
            errs.push(Error::forbidden(&path.child(field), detail));
        }
    }
    if let Some(resource) = &m.resource {
        let path = path.child("resource");
        required(&resource.name, &path.child("name"), errs);
        resource_target(&resource.target, &path.child("target"), errs);
    }
    if let Some(resource) = &m.container_resource {
        let path = path.child("containerResource");
        required(&resource.name, &path.child("name"), errs);
        required(&resource.container, &path.child("container"), errs);
        resource_target(&resource.target, &path.child("target"), errs);
    }
}

/// A resource has a share of the request as its target, or a plain amount per pod.
fn resource_target(target: &MetricTarget, path: &Path, errs: &mut ErrorList) {
    one_of(&target.type_, &["AverageValue", "Utilization", "Value"], &path.child("type"), errs);
    if let Some(share) = target.average_utilization.filter(|s| *s < 1) {
        errs.push(Error::invalid(&path.child("averageUtilization"), share, "must be greater than 0"));
    }
    let positive = |q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| {
        resources::value(&q.0).is_some_and(|v| !v.is_zero() && !v.is_negative())
    };
    if let Some(amount) = target.average_value.as_ref().filter(|q| !positive(q)) {
        errs.push(Error::invalid(&path.child("averageValue"), amount.0.as_str(), "must be positive"));
    }
    match (&target.average_utilization, &target.average_value) {
        (None, None) => {
            let detail = "must set either a target raw value or a target utilization";
            errs.push(Error::required(&path.child("averageUtilization"), detail));
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target raw value and a target utilization";
            errs.push(Error::forbidden(&path.child("averageValue"), detail));
        }
        _ => {}
    }
}

fn scaling_rules(rules: &HPAScalingRules, path: &Path, errs: &mut ErrorList) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let at = path.child("stabilizationWindowSeconds");
        crate::validation::non_negative(seconds, &at, errs);
        if seconds > MAX_WINDOW_SECONDS {
            errs.push(Error::invalid(&at, seconds, &format!("must be less than or equal to {MAX_WINDOW_SECONDS}")));
        }
    }
    if let Some(policy) = &rules.select_policy {
        one_of(policy, &["Disabled", "Max", "Min"], &path.child("selectPolicy"), errs);
    }
    let at = path.child("policies");
    if rules.policies.as_ref().is_some_and(Vec::is_empty) {
        errs.push(Error::required(&at, "must specify at least one Policy"));
    }
    for (path, p) in items(&rules.policies, &at) {
        one_of(&p.type_, &["Percent", "Pods"], &path.child("type"), errs);
        if p.value <= 0 {
            errs.push(Error::invalid(&path.child("value"), p.value, "must be greater than zero"));
        }
        if p.period_seconds <= 0 {
            errs.push(Error::invalid(&path.child("periodSeconds"), p.period_seconds, "must be greater than zero"));
        } else if p.period_seconds > MAX_PERIOD_SECONDS {
            let detail = format!("must be less than or equal to {MAX_PERIOD_SECONDS}");
            errs.push(Error::invalid(&path.child("periodSeconds"), p.period_seconds, &detail));
        }
    }
}
