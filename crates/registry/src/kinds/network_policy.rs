//! NetworkPolicy.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::defaults::{fill, fill_text};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, each, items, json, maybe_one_of, names, port_or_name, selector, spec, text,
};

pub struct Rules;

impl Strategy for Rules {
    type Object = NetworkPolicy;

    fn default(&self, object: &mut NetworkPolicy) {
        let spec = object.spec.get_or_insert_with(NetworkPolicySpec::default);
        fill(&mut spec.pod_selector, LabelSelector::default());
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let egress = spec.egress.as_ref().is_some_and(|e| !e.is_empty());
            let types = ["Ingress", "Egress"].iter().take(if egress { 2 } else { 1 });
            spec.policy_types = Some(types.map(|t| (*t).to_owned()).collect());
        }
        let ingress = spec.ingress.iter_mut().flatten().filter_map(|r| r.ports.as_mut());
        let egress = spec.egress.iter_mut().flatten().filter_map(|r| r.ports.as_mut());
        for port in ingress.chain(egress).flatten() {
            fill_text(&mut port.protocol, "TCP");
        }
    }

    fn validate_create(&self, object: &NetworkPolicy, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if let Some(s) = &object.spec {
            validate(s, &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &NetworkPolicy, _old: &NetworkPolicy, ctx: &Context) -> ErrorList {
        Strategy::validate_create(self, new, ctx)
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn validate(s: &NetworkPolicySpec, errs: &mut ErrorList) {
    if let Some(selector) = &s.pod_selector {
        selector::label_selector(selector, &spec().child("podSelector"), errs);
    }
    for (path, rule) in items(&s.ingress, &spec().child("ingress")) {
        ports(&rule.ports, &path.child("ports"), errs);
        peers(&rule.from, &path.child("from"), errs);
    }
    for (path, rule) in items(&s.egress, &spec().child("egress")) {
        ports(&rule.ports, &path.child("ports"), errs);
        peers(&rule.to, &path.child("to"), errs);
    }
    let path = spec().child("policyTypes");
    if s.policy_types.as_ref().is_some_and(|t| t.len() > 2) {
        errs.push(Error::invalid(&path, json(&s.policy_types), "may not specify more than two policyTypes"));
        return;
    }
    for (path, kind) in items(&s.policy_types, &path) {
        if !matches!(kind.as_str(), "Ingress" | "Egress") {
            errs.push(Error::not_supported(&path, kind.as_str(), &["Egress", "Ingress"]));
        }
    }
}

fn ports(list: &Option<Vec<NetworkPolicyPort>>, path: &Path, errs: &mut ErrorList) {
    for (path, p) in items(list, path) {
        maybe_one_of(text(&p.protocol), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errs);
        if let Some(port) = &p.port {
            port_or_name(port, &path.child("port"), errs);
        }
        let Some(end) = p.end_port else { continue };
        let at = path.child("endPort");
        match &p.port {
            None => errs.push(Error::required(&path.child("port"), "must be specified when endPort is specified")),
            Some(IntOrString::String(_)) => {
                errs.push(Error::invalid(&at, end, "may not be specified when `port` is non-numeric"));
            }
            Some(IntOrString::Int(port)) if end < *port => {
                errs.push(Error::invalid(&at, end, "must be greater than or equal to `port`"));
            }
            Some(IntOrString::Int(_)) => crate::validation::port(end, &at, errs),
        }
    }
}

fn peers(list: &Option<Vec<NetworkPolicyPeer>>, path: &Path, errs: &mut ErrorList) {
    for (path, peer) in items(list, path) {
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        if let Some(s) = &peer.pod_selector {
            selector::label_selector(s, &path.child("podSelector"), errs);
        }
        if let Some(s) = &peer.namespace_selector {
            selector::label_selector(s, &path.child("namespaceSelector"), errs);
        }
        if let Some(block) = &peer.ip_block {
            ip_block(block, &path.child("ipBlock"), errs);
        }
        if !selects && peer.ip_block.is_none() {
            errs.push(Error::required(&path, "must specify a peer"));
        } else if selects && peer.ip_block.is_some() {
            let detail = "may not specify both ipBlock and another peer";
            errs.push(Error::forbidden(&path, detail));
        }
    }
}

fn ip_block(block: &IPBlock, path: &Path, errs: &mut ErrorList) {
    if block.cidr.is_empty() {
        errs.push(Error::required(&path.child("cidr"), ""));
        return;
    }
    each(names::cidr(&block.cidr), &block.cidr, &path.child("cidr"), errs);
    let Ok(whole) = block.cidr.parse::<IpNet>() else { return };
    for (path, except) in items(&block.except, &path.child("except")) {
        each(names::cidr(except), except, &path, errs);
        if let Ok(part) = except.parse::<IpNet>()
            && !(whole.contains(&part) && part.prefix_len() > whole.prefix_len())
        {
            let detail = format!("must be a strict subset of `cidr` ({})", block.cidr);
            errs.push(Error::invalid(&path, except.as_str(), &detail));
        }
    }
}
