//! IngressClass: the controller behind it is given once.

use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference};

use crate::defaults::fill;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, immutable_text, names, one_of, required, spec, text};

const MAX_CONTROLLER_BYTES: usize = 250;

pub struct Rules;

impl Strategy for Rules {
    type Object = IngressClass;

    fn default(&self, object: &mut IngressClass) {
        let spec = object.spec.get_or_insert_default();
        if let Some(parameters) = &mut spec.parameters {
            fill(&mut parameters.scope, "Cluster".to_owned());
        }
    }

    fn validate_create(&self, object: &IngressClass, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let s = object.spec.clone().unwrap_or_default();
        let (controller, path) = (text(&s.controller), spec().child("controller"));
        if controller.len() > MAX_CONTROLLER_BYTES {
            errs.push(Error::too_long(&path, MAX_CONTROLLER_BYTES));
        }
        domain_prefixed(controller, &path, &mut errs);
        if let Some(p) = &s.parameters {
            parameters(p, &spec().child("parameters"), &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &IngressClass, old: &IngressClass, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        let controller = |c: &IngressClass| c.spec.as_ref().and_then(|s| s.controller.clone());
        immutable_text(&controller(new), &controller(old), &spec().child("controller"), &mut errs);
        errs
    }

    fn has_generation(&self) -> bool {
        true
    }
}

/// `example.com/path`
fn domain_prefixed(value: &str, path: &Path, errs: &mut ErrorList) {
    if value.is_empty() {
        errs.push(Error::required(path, ""));
        return;
    }
    match value.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            each(names::dns_subdomain(domain), domain, path, errs);
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errs.push(Error::invalid(path, value, detail));
        }
    }
}

fn parameters(p: &IngressClassParametersReference, path: &Path, errs: &mut ErrorList) {
    required(&p.kind, &path.child("kind"), errs);
    required(&p.name, &path.child("name"), errs);
    let scope = text(&p.scope);
    one_of(scope, &["Cluster", "Namespace"], &path.child("scope"), errs);
    let namespace = text(&p.namespace);
    if scope == "Namespace" && namespace.is_empty() {
        let detail = "`parameters.scope` is set to 'Namespace'";
        errs.push(Error::required(&path.child("namespace"), detail));
    } else if scope == "Cluster" && p.namespace.is_some() {
        let detail = "`parameters.scope` is set to 'Cluster'";
        errs.push(Error::forbidden(&path.child("namespace"), detail));
    } else if !namespace.is_empty() {
        each(names::dns_label(namespace), namespace, &path.child("namespace"), errs);
    }
}
