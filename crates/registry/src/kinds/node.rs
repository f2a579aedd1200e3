//! Node. The pod networks and the provider's id are given once.

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};

use super::keep_other_half;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, NOT_NEGATIVE, each, items, json, names, resources, scheduling, spec, status, text};

pub struct Rules;

impl Strategy for Rules {
    type Object = Node;

    fn default(&self, object: &mut Node) {
        let spec = object.spec.get_or_insert_with(NodeSpec::default);
        // `podCIDR` is the first of `podCIDRs`; where they differ, the singular field is what the client meant.
        let first = spec.pod_cidrs.iter().flatten().next().cloned();
        match spec.pod_cidr.clone().filter(|cidr| !cidr.is_empty()) {
            Some(cidr) if first.as_ref() != Some(&cidr) => spec.pod_cidrs = Some(vec![cidr]),
            None if first.is_some() => spec.pod_cidr = first,
            _ => {}
        }
        let status = object.status.get_or_insert_with(NodeStatus::default);
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_update(&self, new: &mut Node, old: &Node, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &Node, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(object, &mut errs);
        errs
    }

    fn validate_update(&self, new: &Node, old: &Node, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            capacity(new, &mut errs);
            return errs;
        }
        validate(new, &mut errs);
        given_once(new, old, &mut errs);
        errs
    }
}

fn validate(object: &Node, errs: &mut ErrorList) {
    let Some(node) = &object.spec else { return };
    scheduling::taints(&node.taints, &spec().child("taints"), errs);
    for (path, cidr) in items(&node.pod_cidrs, &spec().child("podCIDRs")) {
        each(names::cidr(cidr), cidr, &path, errs);
    }
    if node.pod_cidrs.as_ref().is_some_and(|c| c.len() > 2) {
        let detail = "may specify no more than one CIDR for each IP family";
        errs.push(Error::invalid(&spec().child("podCIDRs"), json(&node.pod_cidrs), detail));
    }
    capacity(object, errs);
}

fn capacity(object: &Node, errs: &mut ErrorList) {
    let Some(node) = &object.status else { return };
    for (list, name) in [(&node.capacity, "capacity"), (&node.allocatable, "allocatable")] {
        for (resource, quantity) in list.iter().flatten() {
            let path = status().child(name).key(resource);
            resources::resource_name(resource, &path, errs);
            if resources::value(&quantity.0).is_some_and(|v| v.is_negative()) {
                errs.push(Error::invalid(&path, quantity.0.as_str(), NOT_NEGATIVE));
            }
        }
    }
}

fn given_once(new: &Node, old: &Node, errs: &mut ErrorList) {
    let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    if old.pod_cidrs.as_ref().is_some_and(|c| !c.is_empty()) && new.pod_cidrs != old.pod_cidrs {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errs.push(Error::forbidden(&spec().child("podCIDRs"), detail));
    }
    if !text(&old.provider_id).is_empty() && text(&new.provider_id) != text(&old.provider_id) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errs.push(Error::forbidden(&spec().child("providerID"), detail));
    }
}
