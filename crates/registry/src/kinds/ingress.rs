//! Ingress.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressLoadBalancerStatus, IngressSpec, IngressStatus,
};

use super::keep_other_half;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, items, json, names, port, required, spec, text};

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: [&str; 7] = ["//", "/./", "/../", "%2f", "%2F", "/..", "/."];

pub struct Rules;

impl Strategy for Rules {
    type Object = Ingress;

    fn default(&self, object: &mut Ingress) {
        object.spec.get_or_insert_with(IngressSpec::default);
        let status = object.status.get_or_insert_with(IngressStatus::default);
        status.load_balancer.get_or_insert_with(IngressLoadBalancerStatus::default);
    }

    fn prepare_create(&self, object: &mut Ingress, _ctx: &Context) {
        object.status = Some(IngressStatus { load_balancer: Some(IngressLoadBalancerStatus::default()) });
    }

    fn prepare_update(&self, new: &mut Ingress, old: &Ingress, ctx: &Context) {
        keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &Ingress, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        validate(&object.spec.clone().unwrap_or_default(), &mut errs);
        errs
    }

    fn validate_update(&self, new: &Ingress, _old: &Ingress, ctx: &Context) -> ErrorList {
        if ctx.status { ErrorList::new() } else { Strategy::validate_create(self, new, ctx) }
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn validate(s: &IngressSpec, errs: &mut ErrorList) {
    let rules = s.rules.as_ref().is_some_and(|r| !r.is_empty());
    if !rules && s.default_backend.is_none() {
        errs.push(Error::invalid(&spec(), json(&s.rules), "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(b) = &s.default_backend {
        backend(b, &spec().child("defaultBackend"), errs);
    }
    for (path, rule) in items(&s.rules, &spec().child("rules")) {
        host(text(&rule.host), &path.child("host"), errs);
        let Some(http) = &rule.http else { continue };
        let path = path.child("http").child("paths");
        if http.paths.is_empty() {
            errs.push(Error::required(&path, ""));
        }
        for (i, p) in http.paths.iter().enumerate() {
            http_path(p, &path.index(i), errs);
        }
    }
    for (path, tls) in items(&s.tls, &spec().child("tls")) {
        for (path, name) in items(&tls.hosts, &path.child("hosts")) {
            host(name, &path, errs);
        }
    }
    if let Some(class) = s.ingress_class_name.as_deref() {
        each(names::dns_subdomain(class), class, &spec().child("ingressClassName"), errs);
    }
}

fn host(name: &str, path: &Path, errs: &mut ErrorList) {
    if name.is_empty() {
        return;
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        errs.push(Error::invalid(path, name, "must be a DNS name, not an IP address"));
    } else if name.contains('*') {
        each(names::wildcard_subdomain(name), name, path, errs);
    } else {
        each(names::dns_subdomain(name), name, path, errs);
    }
}

fn http_path(p: &HTTPIngressPath, path: &Path, errs: &mut ErrorList) {
    let target = text(&p.path);
    match p.path_type.as_str() {
        "" => errs.push(Error::required(&path.child("pathType"), "pathType must be specified")),
        "Exact" | "Prefix" => {
            if !target.starts_with('/') {
                errs.push(Error::invalid(&path.child("path"), target, "must be an absolute path"));
            }
            for bad in BAD_SEQUENCES {
                let last = bad == "/.." || bad == "/.";
                if (last && target.ends_with(bad)) || (!last && target.contains(bad)) {
                    let detail = if last { format!("cannot end with '{bad}'") } else { format!("must not contain '{bad}'") };
                    errs.push(Error::invalid(&path.child("path"), target, &detail));
                }
            }
        }
        "ImplementationSpecific" => {
            if !target.is_empty() && !target.starts_with('/') {
                errs.push(Error::invalid(&path.child("path"), target, "must be an absolute path"));
            }
        }
        other => errs.push(Error::not_supported(&path.child("pathType"), other, &PATH_TYPES)),
    }
    backend(&p.backend, &path.child("backend"), errs);
}

fn backend(b: &IngressBackend, path: &Path, errs: &mut ErrorList) {
    match (&b.service, &b.resource) {
        (Some(_), Some(_)) => {
            errs.push(Error::invalid(path, "", "cannot set both resource and service backends"));
        }
        (None, None) => errs.push(Error::required(path, "either service or resource must be specified")),
        (None, Some(resource)) => {
            required(&resource.kind, &path.child("resource").child("kind"), errs);
            required(&resource.name, &path.child("resource").child("name"), errs);
        }
        (Some(service), None) => {
            let path = path.child("service");
            if service.name.is_empty() {
                errs.push(Error::required(&path.child("name"), ""));
            } else {
                each(names::dns1035_label(&service.name), &service.name, &path.child("name"), errs);
            }
            let (name, number) = service.port.as_ref().map_or(("", 0), |p| (text(&p.name), p.number.unwrap_or(0)));
            match (name, number) {
                ("", 0) => errs.push(Error::required(&path, "port name or number is required")),
                ("", number) => port(number, &path.child("port").child("number"), errs),
                (name, 0) => each(names::port_name(name), name, &path.child("port").child("name"), errs),
                _ => errs.push(Error::invalid(&path, "", "cannot set both port name & port number")),
            }
        }
    }
}
