//! IPAddress: an address that is taken, by the object that it refers to. Its name is the address.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, immutable, metadata, names, spec, text};

pub struct Rules;

impl Strategy for Rules {
    type Object = IPAddress;

    fn default(&self, _object: &mut IPAddress) {}

    fn validate_create(&self, object: &IPAddress, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let name = text(&object.metadata.name);
        each(address(name), name, &metadata().child("name"), &mut errs);
        parent(&object.spec.parent_ref, &spec().child("parentRef"), &mut errs);
        errs
    }

    fn validate_update(&self, new: &IPAddress, old: &IPAddress, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        immutable(&new.spec.parent_ref, &old.spec.parent_ref, &spec().child("parentRef"), &mut errs);
        errs
    }
}

/// In the one form in which it is written.
fn address(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Ok(address) if address.to_string() == name => Vec::new(),
        Ok(_) => vec!["must be a canonical format IP address".to_owned()],
        Err(_) => vec![format!("ParseAddr({name:?}): unable to parse IP")],
    }
}

fn parent(of: &ParentReference, path: &Path, errs: &mut ErrorList) {
    let group = text(&of.group);
    if !group.is_empty() {
        each(names::dns_subdomain(group), group, &path.child("group"), errs);
    }
    for (value, field) in [(of.resource.as_str(), "resource"), (of.name.as_str(), "name")] {
        if value.is_empty() {
            errs.push(Error::required(&path.child(field), ""));
        } else {
            each(api::names::path_segment(value, false), value, &path.child(field), errs);
        }
    }
    let namespace = text(&of.namespace);
    if !namespace.is_empty() {
        each(api::names::path_segment(namespace, false), namespace, &path.child("namespace"), errs);
    }
}
