//! `networking.k8s.io/v1` and `discovery.k8s.io/v1`.

use super::{cluster, namespaced};
use crate::table::{Resource, Sub};

const DISCOVERY: (&str, &str) = ("discovery.k8s.io", "v1");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(DISCOVERY, "EndpointSlice", "endpointslices"),
        cluster(NETWORKING, "IngressClass", "ingressclasses"),
        namespaced(NETWORKING, "Ingress", "ingresses").short(&["ing"]).subs(&[Sub::Status]),
        namespaced(NETWORKING, "NetworkPolicy", "networkpolicies").short(&["netpol"]),
    ]
}
