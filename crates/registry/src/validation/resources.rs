//! Resource requirements and the names resources may have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Error, ErrorList, NOT_NEGATIVE, Path, each, names};
pub(crate) use api::quantity::Quantity as Amount;

pub(crate) type ResourceList = BTreeMap<String, Quantity>;

const HUGE_PAGES: &str = "hugepages-";
const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
const STANDARD_RESOURCES: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];
const INTEGER_RESOURCES: [&str; 8] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.nodeports",
];

/// The number a quantity stands for; `None` for text that is no quantity, which decoding refuses before this.
pub(crate) fn value(text: &str) -> Option<Amount> {
    text.parse().ok()
}

/// Names without a domain, or in Kubernetes' own, are its own.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_standard_for_containers(name: &str) -> bool {
    CONTAINER_RESOURCES.contains(&name) || name.starts_with(HUGE_PAGES)
}

fn is_standard(name: &str) -> bool {
    STANDARD_RESOURCES.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-")
        || name.starts_with("limits.hugepages-")
        || name.starts_with("attachable-volumes-")
}

/// Only native resources other than huge pages may be promised more than once.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Counted things: pods, services and every extended resource.
fn is_integer(name: &str) -> bool {
    INTEGER_RESOURCES.contains(&name) || is_extended(name)
}

pub(crate) fn resource_name(name: &str, path: &Path, errs: &mut ErrorList) {
    let messages = names::qualified_name(name);
    let well_formed = messages.is_empty();
    each(messages, name, path, errs);
    if well_formed && !name.contains('/') && !is_standard(name) {
        errs.push(Error::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
}

fn container_resource_name(name: &str, path: &Path, errs: &mut ErrorList) {
    resource_name(name, path, errs);
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            errs.push(Error::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errs.push(Error::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

pub(crate) fn quantity(name: &str, quantity: &Quantity, path: &Path, errs: &mut ErrorList) {
    let Some(amount) = value(&quantity.0) else { return };
    if amount.is_negative() {
        errs.push(Error::invalid(path, quantity.0.as_str(), NOT_NEGATIVE));
    }
    if is_integer(name) && !amount.is_whole() {
        errs.push(Error::invalid(path, quantity.0.as_str(), "must be an integer"));
    }
}

pub fn requirements(r: &ResourceRequirements, path: &Path, errs: &mut ErrorList) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    for (name, q) in r.limits.iter().flatten() {
        container_resource_name(name, &limits.key(name), errs);
        quantity(name, q, &limits.key(name), errs);
    }
    for (name, q) in r.requests.iter().flatten() {
        container_resource_name(name, &requests.key(name), errs);
        quantity(name, q, &requests.key(name), errs);
        against_limit(name, q, r.limits.as_ref(), path, errs);
    }
    huge_pages(r, path, errs);
}

fn against_limit(name: &str, request: &Quantity, limits: Option<&ResourceList>, path: &Path, errs: &mut ErrorList) {
    let requests = path.child("requests");
    let Some(limit) = limits.and_then(|l| l.get(name)) else {
        if !may_overcommit(name) {
            errs.push(Error::required(&path.child("limits"), "Limit must be set for non overcommitable resources"));
        }
        return;
    };
    let (Some(asked), Some(most)) = (value(&request.0), value(&limit.0)) else { return };
    if asked != most && !may_overcommit(name) {
        let detail = format!("must be equal to {name} limit of {}", limit.0);
        errs.push(Error::invalid(&requests, request.0.as_str(), &detail));
    } else if asked > most {
        let detail = format!("must be less than or equal to {name} limit of {}", limit.0);
        errs.push(Error::invalid(&requests, request.0.as_str(), &detail));
    }
}

fn huge_pages(r: &ResourceRequirements, path: &Path, errs: &mut ErrorList) {
    let mut all = r.limits.iter().flatten().chain(r.requests.iter().flatten()).map(|(name, _)| name.as_str());
    let named = |name: &str| name == "cpu" || name == "memory";
    let has_pages = all.clone().any(|n| n.starts_with(HUGE_PAGES));
    if has_pages && !all.any(named) {
        errs.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// The quality of service that a pod's requests and limits earn it.
pub fn qos_class(spec: &k8s_openapi::api::core::v1::PodSpec) -> &'static str {
    let counted = |list: &Option<ResourceList>| -> BTreeMap<String, Amount> {
        let known = |(name, q): (&String, &Quantity)| {
            let amount = value(&q.0).filter(|v| !v.is_zero() && !v.is_negative())?;
            matches!(name.as_str(), "cpu" | "memory").then(|| (name.clone(), amount))
        };
        list.iter().flatten().filter_map(known).collect()
    };
    let own = spec.resources.iter().filter(|r| r.limits.is_some() || r.requests.is_some());
    let of_containers = || {
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        all.map(|c| c.resources.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    let pod_level: Vec<_> = own.cloned().collect();
    let parts = if pod_level.is_empty() { of_containers() } else { pod_level };
    let (mut any, mut guaranteed) = (false, true);
    for part in parts {
        let (requests, limits) = (counted(&part.requests), counted(&part.limits));
        any |= !requests.is_empty() || !limits.is_empty();
        guaranteed &= limits.len() == 2 && requests.iter().all(|(name, amount)| limits.get(name) == Some(amount));
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
