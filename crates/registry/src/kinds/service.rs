//! Service. Cluster IPs, IP families and node ports are allocated by the API server between `prepare_create` and the
//! write; an update that leaves them out keeps them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::keep_other_half;
use crate::defaults::{fill, fill_text};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, each, items, json as shown, maybe_one_of, names, one_of, port, port_or_name, selector, spec, text,
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const CLIENT_IP_SECONDS: i32 = 3 * 60 * 60;
const MAX_AFFINITY_SECONDS: i32 = 24 * 60 * 60;

pub struct Rules;

impl Strategy for Rules {
    type Object = Service;

    fn default(&self, object: &mut Service) {
        let spec = object.spec.get_or_insert_with(ServiceSpec::default);
        fill_text(&mut spec.session_affinity, "None");
        session_affinity(spec);
        fill_text(&mut spec.type_, "ClusterIP");
        spec.ports.iter_mut().flatten().for_each(default_port);
        let kind = text(&spec.type_).to_owned();
        if externally_accessible(spec) {
            fill_text(&mut spec.external_traffic_policy, "Cluster");
        }
        if kind != "ExternalName" {
            fill(&mut spec.internal_traffic_policy, "Cluster".to_owned());
        }
        if kind == "LoadBalancer" {
            fill(&mut spec.allocate_load_balancer_node_ports, true);
        }
        let status = object.status.get_or_insert_with(ServiceStatus::default);
        let balancer = status.load_balancer.get_or_insert_with(LoadBalancerStatus::default);
        for ingress in balancer.ingress.iter_mut().flatten() {
            if kind == "LoadBalancer" && !text(&ingress.ip).is_empty() {
                fill(&mut ingress.ip_mode, "VIP".to_owned());
            }
        }
    }

    fn prepare_create(&self, object: &mut Service, _ctx: &Context) {
        let empty = LoadBalancerStatus::default();
        object.status = Some(ServiceStatus { load_balancer: Some(empty), ..ServiceStatus::default() });
        one_ip_first(object.spec.get_or_insert_with(ServiceSpec::default), None);
    }

    fn prepare_update(&self, new: &mut Service, old: &Service, ctx: &Context) {
        keep_other_half!(new, old, ctx);
        let (Some(new), Some(old)) = (&mut new.spec, &old.spec) else { return };
        if !ctx.status {
            one_ip_first(new, Some(old));
            keep_allocated(new, old);
            drop_unneeded(new, old);
        }
    }

    fn validate_create(&self, object: &Service, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(object, &mut errs);
        errs
    }

    fn validate_update(&self, new: &Service, old: &Service, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            return errs;
        }
        validate(new, &mut errs);
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            primary_ip(new, old, &mut errs);
            balancer_class(new, old, &mut errs);
        }
        errs
    }

    fn warnings(&self, object: &Service) -> Vec<String> {
        let Some(service) = &object.spec else { return Vec::new() };
        let mut found = Vec::new();
        if !text(&service.load_balancer_ip).is_empty() && text(&service.type_) != "LoadBalancer" {
            found.push("spec.loadBalancerIP is ignored when spec.type is not LoadBalancer".to_owned());
        }
        if service.external_ips.as_ref().is_some_and(|e| !e.is_empty()) && text(&service.type_) == "ExternalName" {
            found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
        }
        if text(&service.session_affinity) == "ClientIP" && is_headless(service) {
            found.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
        found
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn session_affinity(spec: &mut ServiceSpec) {
    match text(&spec.session_affinity) {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
            if config.and_then(|c| c.timeout_seconds).is_none() {
                let client_ip = Some(ClientIPConfig { timeout_seconds: Some(CLIENT_IP_SECONDS) });
                spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
            }
        }
        _ => {}
    }
}

fn default_port(p: &mut ServicePort) {
    fill_text(&mut p.protocol, "TCP");
    let unset = match &p.target_port {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::String(name)) => name.is_empty(),
        Some(IntOrString::Int(_)) => false,
    };
    if unset {
        p.target_port = Some(IntOrString::Int(p.port));
    }
}

fn is_headless(s: &ServiceSpec) -> bool {
    text(&s.cluster_ip) == "None"
}

fn needs_cluster_ip(s: &ServiceSpec) -> bool {
    text(&s.type_) != "ExternalName"
}

fn needs_node_port(s: &ServiceSpec) -> bool {
    match text(&s.type_) {
        "NodePort" => true,
        "LoadBalancer" => s.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

fn externally_accessible(s: &ServiceSpec) -> bool {
    let external_ips = s.external_ips.as_ref().is_some_and(|e| !e.is_empty());
    matches!(text(&s.type_), "LoadBalancer" | "NodePort") || (text(&s.type_) == "ClusterIP" && external_ips)
}

fn needs_health_check_port(s: &ServiceSpec) -> bool {
    text(&s.type_) == "LoadBalancer" && text(&s.external_traffic_policy) == "Local"
}

fn ips(s: &ServiceSpec) -> &[String] {
    s.cluster_ips.as_deref().unwrap_or_default()
}

/// `clusterIP` is the first of `clusterIPs`. A client that knows only the one keeps the other in step.
fn one_ip_first(new: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    let ip = text(&new.cluster_ip).to_owned();
    let Some(old) = old else {
        if !ip.is_empty() && ips(new).is_empty() {
            new.cluster_ips = Some(vec![ip]);
        }
        return;
    };
    let untouched = ips(new) == ips(old) || ips(new).is_empty();
    let changed = ip != text(&old.cluster_ip);
    if changed && untouched {
        new.cluster_ips = (!ip.is_empty()).then(|| vec![ip]);
    }
}

/// What was allocated stays, unless the client asks for something else.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(new) && needs_cluster_ip(old) {
        if text(&new.cluster_ip).is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if ips(new).is_empty() && text(&new.cluster_ip) == text(&old.cluster_ip) {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if new.ip_families.as_ref().is_none_or(Vec::is_empty) {
            new.ip_families.clone_from(&old.ip_families);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
    }
    if needs_node_port(new) && needs_node_port(old) {
        keep_node_ports(new, old);
    }
    if needs_health_check_port(new) && needs_health_check_port(old) && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let mut used: BTreeSet<i32> = new.ports.iter().flatten().filter_map(|p| p.node_port).filter(|n| *n != 0).collect();
    for p in new.ports.iter_mut().flatten().filter(|p| p.node_port.unwrap_or(0) == 0) {
        let same = |o: &&ServicePort| o.protocol == p.protocol && o.port == p.port;
        let node_port = old.ports.iter().flatten().find(same).and_then(|o| o.node_port);
        if let Some(node_port) = node_port.filter(|n| *n != 0 && used.insert(*n)) {
            p.node_port = Some(node_port);
        }
    }
}

/// A change of type gives up what the new type does not have, when the client did not touch it.
fn drop_unneeded(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if text(&new.cluster_ip) == text(&old.cluster_ip) && ips(new) == ips(old) {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        new.ip_families = None;
        new.ip_family_policy = None;
    }
    let ports = |s: &ServiceSpec| -> Vec<i32> { s.ports.iter().flatten().filter_map(|p| p.node_port).collect() };
    if needs_node_port(old) && !needs_node_port(new) && ports(new) == ports(old) {
        new.ports.iter_mut().flatten().for_each(|p| p.node_port = None);
    }
    let was = old.health_check_node_port;
    if needs_health_check_port(old) && !needs_health_check_port(new) && new.health_check_node_port == was {
        new.health_check_node_port = None;
    }
    if text(&old.type_) == "LoadBalancer" && text(&new.type_) != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    let same_policy = new.external_traffic_policy == old.external_traffic_policy;
    if externally_accessible(old) && !externally_accessible(new) && same_policy {
        new.external_traffic_policy = None;
    }
    if text(&old.type_) == "ExternalName" && text(&new.type_) != "ExternalName" && new.external_name == old.external_name {
        new.external_name = None;
    }
}

fn validate(object: &Service, errs: &mut ErrorList) {
    let empty = ServiceSpec::default();
    let (s, at) = (object.spec.as_ref().unwrap_or(&empty), spec());
    by_type(s, &at, errs);
    ports(s, &at.child("ports"), errs);
    selector::labels(&s.selector, &at.child("selector"), errs);
    affinity(s, &at, errs);
    one_of(text(&s.type_), &TYPES, &at.child("type"), errs);
    for (path, ip) in items(&s.external_ips, &at.child("externalIPs")) {
        let messages = names::ip(ip);
        let fine = messages.is_empty();
        each(messages, ip, &path, errs);
        if fine {
            super::endpoints::routable(ip, &path, errs);
        }
    }
    traffic(s, &at, errs);
    cluster_ips(s, &at, errs);
    for (path, range) in items(&s.load_balancer_source_ranges, &at.child("loadBalancerSourceRanges")) {
        each(names::cidr(range.trim()), range, &path, errs);
    }
}

fn by_type(s: &ServiceSpec, at: &Path, errs: &mut ErrorList) {
    let kind = text(&s.type_);
    let has_ports = s.ports.as_ref().is_some_and(|p| !p.is_empty());
    if !has_ports && !is_headless(s) && kind != "ExternalName" {
        errs.push(Error::required(&at.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(s) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errs.push(Error::invalid(&at.child("clusterIPs").index(0), "None", &detail));
        }
        "ExternalName" => {
            if !ips(s).is_empty() {
                errs.push(Error::forbidden(&at.child("clusterIPs"), "may not be set for ExternalName services"));
            }
            let name = text(&s.external_name);
            let bare = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errs.push(Error::required(&at.child("externalName"), ""));
            } else {
                each(names::dns_subdomain(bare), name, &at.child("externalName"), errs);
            }
        }
        _ => {}
    }
}

fn ports(s: &ServiceSpec, path: &Path, errs: &mut ErrorList) {
    let many = s.ports.as_ref().is_some_and(|p| p.len() > 1);
    let (mut seen, mut taken, mut on_nodes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (path, p) in items(&s.ports, path) {
        port_name(text(&p.name), many, &mut seen, &path.child("name"), errs);
        port(p.port, &path.child("port"), errs);
        one_of(text(&p.protocol), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errs);
        if let Some(target) = &p.target_port {
            port_or_name(target, &path.child("targetPort"), errs);
        }
        if let Some(protocol) = p.app_protocol.as_deref() {
            each(names::qualified_name(protocol), protocol, &path.child("appProtocol"), errs);
        }
        if !taken.insert((text(&p.protocol), p.port)) {
            // The words of upstream's internal type, field names and all.
            let key = json!({"Name": "", "Protocol": p.protocol, "AppProtocol": null, "Port": p.port, "TargetPort": 0, "NodePort": 0});
            errs.push(Error::duplicate(&path, key));
        }
        node_port(s, p, &mut on_nodes, &path.child("nodePort"), errs);
    }
}

fn port_name<'a>(name: &'a str, needed: bool, seen: &mut BTreeSet<&'a str>, path: &Path, errs: &mut ErrorList) {
    if name.is_empty() {
        if needed {
            errs.push(Error::required(path, ""));
        }
        return;
    }
    each(names::dns_label(name), name, path, errs);
    if !seen.insert(name) {
        errs.push(Error::duplicate(path, name));
    }
}

fn node_port<'a>(
    s: &ServiceSpec,
    p: &'a ServicePort,
    seen: &mut BTreeSet<(&'a str, i32)>,
    path: &Path,
    errs: &mut ErrorList,
) {
    let number = p.node_port.unwrap_or(0);
    if number == 0 {
        return;
    }
    match text(&s.type_) {
        "ClusterIP" => errs.push(Error::forbidden(path, "may not be used when `type` is 'ClusterIP'")),
        "NodePort" | "LoadBalancer" if !seen.insert((text(&p.protocol), number)) => {
            errs.push(Error::duplicate(path, number));
        }
        _ => {}
    }
}

fn affinity(s: &ServiceSpec, at: &Path, errs: &mut ErrorList) {
    let mode = text(&s.session_affinity);
    one_of(mode, &["ClientIP", "None"], &at.child("sessionAffinity"), errs);
    let path = at.child("sessionAffinityConfig");
    if mode == "None" && s.session_affinity_config.is_some() {
        let detail = "must not be set when session affinity is None";
        errs.push(Error::forbidden(&path, detail));
    } else if mode == "ClientIP" {
        let config = s.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let at = path.child("clientIP").child("timeoutSeconds");
        match config.and_then(|c| c.timeout_seconds) {
            Some(seconds) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => {
                let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                errs.push(Error::invalid(&at, seconds, &detail));
            }
            Some(_) => {}
            None => errs.push(Error::required(&path, "when session affinity type is ClientIP")),
        }
    }
}

fn traffic(s: &ServiceSpec, at: &Path, errs: &mut ErrorList) {
    let (external, internal) = (text(&s.external_traffic_policy), text(&s.internal_traffic_policy));
    let path = at.child("externalTrafficPolicy");
    if !externally_accessible(s) {
        if !external.is_empty() {
            errs.push(Error::invalid(&path, external, "may only be set for externally-accessible services"));
        }
    } else {
        one_of(external, &["Cluster", "Local"], &path, errs);
    }
    if text(&s.type_) != "ExternalName" {
        one_of(internal, &["Cluster", "Local"], &at.child("internalTrafficPolicy"), errs);
    }
    let number = s.health_check_node_port.unwrap_or(0);
    if number != 0 && !needs_health_check_port(s) {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errs.push(Error::invalid(&at.child("healthCheckNodePort"), number, detail));
    }
    let distributions = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    let distribution = text(&s.traffic_distribution);
    maybe_one_of(distribution, &distributions, &at.child("trafficDistribution"), errs);
    if s.allocate_load_balancer_node_ports.is_some() && text(&s.type_) != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errs.push(Error::forbidden(&at.child("allocateLoadBalancerNodePorts"), detail));
    }
}

fn cluster_ips(s: &ServiceSpec, at: &Path, errs: &mut ErrorList) {
    let path = at.child("clusterIPs");
    let (ip, list) = (text(&s.cluster_ip), ips(s));
    if ip.is_empty() && !list.is_empty() {
        let detail = "must be empty when `clusterIP` is not specified";
        errs.push(Error::invalid(&path, shown(&s.cluster_ips), detail));
        return;
    }
    if let Some(first) = list.first()
        && first != ip
    {
        let detail = "first value must match `clusterIP`";
        errs.push(Error::invalid(&path, shown(&s.cluster_ips), detail));
    }
    if list.len() > 2 {
        let detail = "may only hold up to 2 values";
        errs.push(Error::invalid(&path, shown(&s.cluster_ips), detail));
    }
    for (i, value) in list.iter().enumerate() {
        if value != "None" {
            each(names::ip(value), value, &path.index(i), errs);
        } else if list.len() > 1 {
            let detail = "'None' must be the first and only value";
            errs.push(Error::invalid(&path, shown(&s.cluster_ips), detail));
        }
    }
    families(s, at, errs);
}

fn families(s: &ServiceSpec, at: &Path, errs: &mut ErrorList) {
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = text(&s.ip_family_policy);
    maybe_one_of(policy, &policies, &at.child("ipFamilyPolicy"), errs);
    let mut seen = BTreeSet::new();
    for (path, family) in items(&s.ip_families, &at.child("ipFamilies")) {
        one_of(family, &["IPv4", "IPv6"], &path, errs);
        if !seen.insert(family) {
            errs.push(Error::duplicate(&path, family.as_str()));
        }
    }
}

/// The first address is the service's identity; only a change of type may give it up.
fn primary_ip(new: &ServiceSpec, old: &ServiceSpec, errs: &mut ErrorList) {
    let path = spec().child("clusterIPs").index(0);
    if !needs_cluster_ip(new) || !needs_cluster_ip(old) {
        return;
    }
    let (Some(was), now) = (ips(old).first(), ips(new).first()) else { return };
    match now {
        None => errs.push(Error::invalid(&path, shown(&new.cluster_ips), "primary clusterIP can not be unset")),
        Some(now) if now != was => {
            errs.push(Error::invalid(&path, shown(&new.cluster_ips), "may not change once set"));
        }
        Some(_) => {}
    }
}

fn balancer_class(new: &ServiceSpec, old: &ServiceSpec, errs: &mut ErrorList) {
    let both = text(&new.type_) == "LoadBalancer" && text(&old.type_) == "LoadBalancer";
    if both && new.load_balancer_class != old.load_balancer_class {
        let path = spec().child("loadBalancerClass");
        errs.push(Error::invalid(&path, shown(&new.load_balancer_class), "may not change once set"));
    }
}
