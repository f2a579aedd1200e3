//! A Service's port as the rules need it, taken from the API object with everything defaulted and parsed.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort, ServiceSpec};

use crate::config::Family;
use crate::names::{Protocol, ServiceKey, ServicePortName};

const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// One port of a Service, of one IP family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub name: ServicePortName,
    pub protocol: Protocol,
    pub cluster_ip: IpAddr,
    pub port: u16,
    /// 0 when there is none.
    pub node_port: u16,
    pub external_ips: Vec<IpAddr>,
    /// Ingress addresses that are delivered to the node as they are (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<IpNet>,
    /// Seconds of `ClientIP` session affinity.
    pub affinity_seconds: Option<i32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// 0 when there is none.
    pub health_check_node_port: u16,
}

impl ServicePort {
    pub fn externally_accessible(&self) -> bool {
        self.node_port != 0 || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// Even a Service of `externalTrafficPolicy: Local` serves pods and the node itself from the whole cluster.
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.externally_accessible()
    }

    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible())
    }
}

/// The ports of a Service that get rules in this family; none for headless and ExternalName Services.
pub(crate) fn ports_of(service: &Service, family: Family) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(cluster_ip) = cluster_ip(spec, family) else { return Vec::new() };
    let key = ServiceKey::new(
        service.metadata.namespace.as_deref().unwrap_or_default(),
        service.metadata.name.as_deref().unwrap_or_default(),
    );
    let shared = Shared::new(service, spec, family);
    spec.ports.iter().flatten().filter_map(|port| shared.port(&key, cluster_ip, port)).collect()
}

/// Its node port asks for a health check server.
pub(crate) fn health_check_node_port(spec: &ServiceSpec) -> u16 {
    let wanted =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    if wanted { port_number(spec.health_check_node_port) } else { 0 }
}

fn cluster_ip(spec: &ServiceSpec, family: Family) -> Option<IpAddr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    listed.filter_map(|ip| ip.parse::<IpAddr>().ok()).find(|ip| family.holds(*ip))
}

/// What all ports of a Service have in common.
struct Shared {
    external_ips: Vec<IpAddr>,
    load_balancer_ips: Vec<IpAddr>,
    source_ranges: Vec<IpNet>,
    affinity_seconds: Option<i32>,
    internal_local: bool,
    external_local: bool,
    health_check_node_port: u16,
}

impl Shared {
    fn new(service: &Service, spec: &ServiceSpec, family: Family) -> Self {
        let external_ips = ips(spec.external_ips.iter().flatten(), family);
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let accessible = matches!(kind, "NodePort" | "LoadBalancer") || !external_ips.is_empty();
        Self {
            external_ips,
            load_balancer_ips: load_balancer_ips(service, family),
            source_ranges: source_ranges(spec, family),
            affinity_seconds: affinity_seconds(spec),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: accessible && spec.external_traffic_policy.as_deref() == Some("Local"),
            health_check_node_port: health_check_node_port(spec),
        }
    }

    fn port(&self, key: &ServiceKey, cluster_ip: IpAddr, port: &ApiPort) -> Option<ServicePort> {
        Some(ServicePort {
            name: ServicePortName { service: key.clone(), port: port.name.clone().unwrap_or_default() },
            protocol: Protocol::parse(port.protocol.as_deref())?,
            cluster_ip,
            port: u16::try_from(port.port).ok()?,
            node_port: port_number(port.node_port),
            external_ips: self.external_ips.clone(),
            load_balancer_ips: self.load_balancer_ips.clone(),
            source_ranges: self.source_ranges.clone(),
            affinity_seconds: self.affinity_seconds,
            internal_local: self.internal_local,
            external_local: self.external_local,
            health_check_node_port: self.health_check_node_port,
        })
    }
}

fn port_number(port: Option<i32>) -> u16 {
    port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0)
}

fn ips<'a>(listed: impl Iterator<Item = &'a String>, family: Family) -> Vec<IpAddr> {
    listed.filter_map(|ip| ip.parse().ok()).filter(|ip| family.holds(*ip)).collect()
}

fn load_balancer_ips(service: &Service, family: Family) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let vips = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    ips(vips.filter_map(|ingress| ingress.ip.as_ref()), family)
}

/// Ranges may carry stray blanks: validation let them in once.
fn source_ranges(spec: &ServiceSpec, family: Family) -> Vec<IpNet> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    ranges.filter_map(|range| range.trim().parse::<IpNet>().ok()).filter(|net| family.holds(net.addr())).collect()
}

fn affinity_seconds(spec: &ServiceSpec) -> Option<i32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    Some(client_ip.and_then(|config| config.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS))
}
