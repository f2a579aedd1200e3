//! Endpoints of a service port, taken from EndpointSlices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointPort, EndpointSlice};

use crate::config::Family;
use crate::names::{Protocol, ServiceKey};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Namespace and name of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    pub namespace: String,
    pub name: String,
}

impl SliceKey {
    pub fn of(slice: &EndpointSlice) -> Self {
        Self {
            namespace: slice.metadata.namespace.clone().unwrap_or_default(),
            name: slice.metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// One address and port behind a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// On this node.
    pub local: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub for_nodes: BTreeSet<String>,
    pub for_zones: BTreeSet<String>,
}

/// The endpoints that one slice contributes, by port name and protocol.
pub(crate) type SliceEndpoints = BTreeMap<(String, Protocol), Vec<Endpoint>>;

/// The Service that a slice belongs to.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<ServiceKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some(ServiceKey::new(slice.metadata.namespace.clone().unwrap_or_default(), name))
}

/// Parses a slice; one of another family has no endpoints here.
pub(crate) fn endpoints_of(slice: &EndpointSlice, family: Family, node_name: &str) -> SliceEndpoints {
    let mut by_port = SliceEndpoints::new();
    if slice.address_type != family.address_type() {
        return by_port;
    }
    for port in slice.ports.iter().flatten() {
        let Some((key, number)) = port_key(port) else { continue };
        let endpoints = slice.endpoints.iter().flatten().filter_map(|ep| endpoint(ep, number, family, node_name));
        by_port.entry(key).or_default().extend(endpoints);
    }
    by_port
}

fn port_key(port: &EndpointPort) -> Option<((String, Protocol), u16)> {
    let protocol = Protocol::parse(port.protocol.as_deref())?;
    let number = u16::try_from(port.port?).ok().filter(|number| *number != 0)?;
    Some(((port.name.clone().unwrap_or_default(), protocol), number))
}

/// Only the first address counts: an endpoint's addresses are interchangeable by definition of the API.
fn endpoint(endpoint: &ApiEndpoint, port: u16, family: Family, node_name: &str) -> Option<Endpoint> {
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    if !family.holds(ip) {
        return None;
    }
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    Some(Endpoint {
        address: SocketAddr::new(ip, port),
        local: endpoint.node_name.as_deref() == Some(node_name),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        for_nodes: hints.and_then(|h| h.for_nodes.as_ref()).into_iter().flatten().map(|n| n.name.clone()).collect(),
        for_zones: hints.and_then(|h| h.for_zones.as_ref()).into_iter().flatten().map(|z| z.name.clone()).collect(),
    })
}

/// Joins what several slices say of one port: each address once, the ready one winning while a pod moves between
/// slices, in the order of their text, so that equal state renders equal rules.
pub(crate) fn merge<'a>(slices: impl Iterator<Item = &'a Endpoint>) -> Vec<Endpoint> {
    let mut by_text: BTreeMap<String, &Endpoint> = BTreeMap::new();
    for endpoint in slices {
        let known = by_text.entry(endpoint.address.to_string()).or_insert(endpoint);
        if endpoint.ready && !known.ready {
            *known = endpoint;
        }
    }
    by_text.into_values().cloned().collect()
}
