//! EndpointSlice: addresses of one family behind one set of ports.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::endpoints::routable;
use crate::defaults::{fill, fill_text};
use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, Path, each, immutable, items, maybe_one_of, names, one_of, port, text,
};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20000;
const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

pub struct Rules;

impl Strategy for Rules {
    type Object = EndpointSlice;

    fn default(&self, object: &mut EndpointSlice) {
        for p in object.ports.iter_mut().flatten() {
            fill(&mut p.name, String::new());
            fill_text(&mut p.protocol, "TCP");
        }
    }

    fn validate_create(&self, object: &EndpointSlice, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        one_of(&object.address_type, &TYPES, &Path::new("addressType"), &mut errs);
        let path = Path::new("endpoints");
        let count = object.endpoints.as_ref().map_or(0, Vec::len);
        if count > MAX_ENDPOINTS {
            errs.push(Error::too_many(&path, count, MAX_ENDPOINTS));
            return errs;
        }
        for (path, e) in items(&object.endpoints, &path) {
            endpoint(e, &object.address_type, &path, &mut errs);
        }
        ports(&object.ports, &Path::new("ports"), &mut errs);
        errs
    }

    fn validate_update(&self, new: &EndpointSlice, old: &EndpointSlice, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        immutable(&new.address_type, &old.address_type, &Path::new("addressType"), &mut errs);
        errs
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn endpoint(e: &Endpoint, kind: &str, path: &Path, errs: &mut ErrorList) {
    let at = path.child("addresses");
    match e.addresses.len() {
        0 => errs.push(Error::required(&at, "must contain at least 1 address")),
        n if n > MAX_ADDRESSES => errs.push(Error::too_many(&at, n, MAX_ADDRESSES)),
        _ => {}
    }
    for (i, value) in e.addresses.iter().enumerate() {
        address(value, kind, &at.index(i), errs);
    }
    if let Some(node) = e.node_name.as_deref() {
        each(names::dns_subdomain(node), node, &path.child("nodeName"), errs);
    }
    if let Some(host) = e.hostname.as_deref() {
        each(names::dns_label(host), host, &path.child("hostname"), errs);
    }
    for key in e.deprecated_topology.iter().flatten().map(|(key, _)| key) {
        each(names::qualified_name(key), key, &path.child("deprecatedTopology").key(key), errs);
    }
}

fn address(value: &str, kind: &str, path: &Path, errs: &mut ErrorList) {
    let words = match kind {
        "IPv4" if value.parse::<Ipv4Addr>().is_err() => "must be a valid IPv4 address",
        "IPv6" if value.parse::<Ipv6Addr>().is_err() => "must be a valid IPv6 address",
        "FQDN" => return each(names::dns_subdomain(value), value, path, errs),
        _ => return routable(value, path, errs),
    };
    errs.push(Error::invalid(path, value, words));
}

fn ports(list: &Option<Vec<EndpointPort>>, path: &Path, errs: &mut ErrorList) {
    let count = list.as_ref().map_or(0, Vec::len);
    if count > MAX_PORTS {
        errs.push(Error::too_many(path, count, MAX_PORTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (path, p) in items(list, path) {
        let name = text(&p.name);
        if !name.is_empty() {
            each(names::dns_label(name), name, &path.child("name"), errs);
        }
        if !seen.insert(name) {
            errs.push(Error::duplicate(&path.child("name"), name));
        }
        maybe_one_of(text(&p.protocol), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errs);
        if let Some(number) = p.port {
            port(number, &path.child("port"), errs);
        }
        if let Some(protocol) = p.app_protocol.as_deref() {
            each(names::qualified_name(protocol), protocol, &path.child("appProtocol"), errs);
        }
    }
}
