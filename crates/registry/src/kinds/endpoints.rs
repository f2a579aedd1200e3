//! Endpoints: the old form of a service's addresses.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use crate::defaults::fill_text;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, items, names, one_of, port, text};

pub struct Rules;

impl Strategy for Rules {
    type Object = Endpoints;

    fn default(&self, object: &mut Endpoints) {
        for subset in object.subsets.iter_mut().flatten() {
            for p in subset.ports.iter_mut().flatten() {
                fill_text(&mut p.protocol, "TCP");
            }
        }
    }

    fn validate_create(&self, object: &Endpoints, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        for (path, subset) in items(&object.subsets, &Path::new("subsets")) {
            let none = |list: &Option<Vec<EndpointAddress>>| list.as_ref().is_none_or(Vec::is_empty);
            if none(&subset.addresses) && none(&subset.not_ready_addresses) {
                errs.push(Error::required(&path, "must specify `addresses` or `notReadyAddresses`"));
            }
            addresses(&subset.addresses, &path.child("addresses"), &mut errs);
            addresses(&subset.not_ready_addresses, &path.child("notReadyAddresses"), &mut errs);
            ports(&subset.ports, &path.child("ports"), &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &Endpoints, _old: &Endpoints, ctx: &Context) -> ErrorList {
        Strategy::validate_create(self, new, ctx)
    }

    fn warnings(&self, _object: &Endpoints) -> Vec<String> {
        vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn addresses(list: &Option<Vec<EndpointAddress>>, path: &Path, errs: &mut ErrorList) {
    for (path, address) in items(list, path) {
        let messages = names::ip(&address.ip);
        let fine = messages.is_empty();
        each(messages, &address.ip, &path.child("ip"), errs);
        if !text(&address.hostname).is_empty() {
            each(names::dns_label(text(&address.hostname)), text(&address.hostname), &path.child("hostname"), errs);
        }
        if let Some(node) = address.node_name.as_deref() {
            each(names::dns_subdomain(node), node, &path.child("nodeName"), errs);
        }
        if fine {
            routable(&address.ip, &path.child("ip"), errs);
        }
    }
}

fn ports(list: &Option<Vec<EndpointPort>>, path: &Path, errs: &mut ErrorList) {
    let named = list.as_ref().is_some_and(|l| l.len() > 1);
    for (path, p) in items(list, path) {
        let name = text(&p.name);
        if name.is_empty() && named {
            errs.push(Error::required(&path.child("name"), ""));
        } else if !name.is_empty() {
            each(names::dns_label(name), name, &path.child("name"), errs);
        }
        port(p.port, &path.child("port"), errs);
        one_of(text(&p.protocol), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errs);
        if let Some(protocol) = p.app_protocol.as_deref() {
            each(names::qualified_name(protocol), protocol, &path.child("appProtocol"), errs);
        }
    }
}

/// Addresses that would reach the client's own host or link are refused: an endpoint could else be used to talk to
/// what listens there only.
pub(super) fn routable(value: &str, path: &Path, errs: &mut ErrorList) {
    let Ok(ip) = value.parse::<IpAddr>() else { return };
    let detail = match ip {
        ip if ip.is_unspecified() => format!("may not be unspecified ({value})"),
        ip if ip.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        IpAddr::V4(v4) if v4.is_link_local() => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
        }
        IpAddr::V4(v4) if v4.octets()[..3] == [224, 0, 0] => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
        }
        IpAddr::V6(v6) if v6.segments()[0] == 0xff02 => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
        }
        _ => return,
    };
    errs.push(Error::invalid(path, value, &detail));
}
