//! `networking.k8s.io/v1` and `discovery.k8s.io/v1`.

use super::{cluster, namespaced};
use crate::names::NameRule;
use crate::printers::network;
use crate::table::{Resource, Sub};

const DISCOVERY: (&str, &str) = ("discovery.k8s.io", "v1");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(DISCOVERY, "EndpointSlice", "endpointslices").printed(network::endpoint_slice()),
        cluster(NETWORKING, "IPAddress", "ipaddresses")
            .short(&["ip"])
            .named(NameRule::PathSegment)
            .printed(network::ip_address()),
        cluster(NETWORKING, "IngressClass", "ingressclasses").printed(network::ingress_class()),
        namespaced(NETWORKING, "Ingress", "ingresses").short(&["ing"]).subs(&[Sub::Status]).printed(network::ingress()),
        namespaced(NETWORKING, "NetworkPolicy", "networkpolicies")
            .short(&["netpol"])
            .printed(network::network_policy()),
        cluster(NETWORKING, "ServiceCIDR", "servicecidrs").subs(&[Sub::Status]).printed(network::service_cidr()),
    ]
}
