//! The names of one Service, as the Kubernetes DNS specification (version 1.1.0) wants them.
//!
//! For a Service `web` in `shop` with a port `http`:
//! - with a cluster IP: A `web.shop.svc`, SRV `_http._tcp.web.shop.svc` to it, PTR of the cluster IP;
//! - headless: A `web.shop.svc` of every ready endpoint, SRV `_http._tcp.web.shop.svc` to each endpoint's own name;
//! - either: A and PTR of each endpoint's own name, `<hostname>.web.shop.svc` or `10-244-0-5.web.shop.svc`;
//! - ExternalName: CNAME `web.shop.svc`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Seconds that a client may remember an answer.
pub const TTL: u32 = 5;
/// Weights of the SRV records of one name add up to this.
const SRV_WEIGHT: usize = 100;

/// Everything that is known of one name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    pub records: Vec<Record>,
    /// Addresses of SRV targets, which go along with SRV records.
    pub glue: Vec<Record>,
}

impl Entry {
    pub fn has(&self, record_type: RecordType) -> bool {
        self.records.iter().any(|record| record_type == RecordType::ANY || record.record_type() == record_type)
    }
}

/// Where an SRV record leads: name, port, and the addresses of the name.
type Target = (Name, u16, Vec<IpAddr>);

/// All names of a Service.
#[derive(Debug, Default, PartialEq)]
pub struct ServiceRecords {
    pub forward: HashMap<LowerName, Entry>,
    pub reverse: Vec<(IpAddr, Name)>,
}

/// An endpoint's address and host label, with the named ports it offers.
type Endpoints = BTreeMap<(IpAddr, String), BTreeSet<(String, String, u16)>>;

/// Derives the names. `zone` is the cluster's domain.
pub fn records_of<'a>(
    zone: &Name,
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> ServiceRecords {
    let mut names = Names::default();
    let Some((spec, base)) = service.spec.as_ref().zip(service_name(zone, service)) else { return names.0 };
    if spec.type_.as_deref() == Some("ExternalName") {
        names.external(&base, spec);
        return names.0;
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let endpoints = endpoints(slices);
    if headless {
        names.headless(&base, &endpoints);
    } else {
        names.cluster_ips(&base, spec);
    }
    for (ip, host) in endpoints.keys() {
        if let Some(name) = child(&base, host) {
            names.address(&name, *ip);
            names.0.reverse.push((*ip, name));
        }
    }
    names.0
}

/// `<name>.<namespace>.svc.<zone>`
fn service_name(zone: &Name, service: &Service) -> Option<Name> {
    let namespace = child(&child(zone, "svc")?, service.metadata.namespace.as_deref()?)?;
    child(&namespace, service.metadata.name.as_deref()?)
}

/// None when the name would be too long.
pub(crate) fn child(parent: &Name, label: &str) -> Option<Name> {
    parent.prepend_label(label.to_ascii_lowercase().as_bytes()).ok()
}

/// `10.244.0.5` as `10-244-0-5`.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// An address in a record.
pub(crate) fn address_data(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn endpoints<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Endpoints {
    let mut endpoints = Endpoints::new();
    for slice in slices {
        let port = |port: &k8s_openapi::api::discovery::v1::EndpointPort| {
            let name = port.name.clone().filter(|name| !name.is_empty())?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
            Some((name, protocol, u16::try_from(port.port?).ok()?))
        };
        let ports: Vec<_> = slice.ports.iter().flatten().filter_map(port).collect();
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
            for ip in endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()) {
                let host = endpoint.hostname.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| dashed(ip));
                endpoints.entry((ip, host)).or_default().extend(ports.iter().cloned());
            }
        }
    }
    endpoints
}

/// Unknown counts as ready; `publishNotReadyAddresses` is already in the condition.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

#[derive(Default)]
struct Names(ServiceRecords);

impl Names {
    fn add(&mut self, name: &Name, data: RData) {
        let record = Record::from_rdata(name.clone(), TTL, data);
        self.0.forward.entry(LowerName::new(name)).or_default().records.push(record);
    }

    fn address(&mut self, name: &Name, ip: IpAddr) {
        self.add(name, address_data(ip));
    }

    fn external(&mut self, base: &Name, spec: &ServiceSpec) {
        let Some(target) = spec.external_name.as_deref().filter(|target| !target.is_empty()) else { return };
        if let Ok(ip) = target.parse() {
            return self.address(base, ip);
        }
        if let Ok(mut target) = Name::from_ascii(target) {
            target.set_fqdn(true);
            self.add(base, RData::CNAME(CNAME(target)));
        }
    }

    fn cluster_ips(&mut self, base: &Name, spec: &ServiceSpec) {
        let listed = spec.cluster_ips.clone().unwrap_or_else(|| spec.cluster_ip.iter().cloned().collect());
        let ips: Vec<IpAddr> = listed.iter().filter_map(|ip| ip.parse().ok()).collect();
        for ip in &ips {
            self.address(base, *ip);
            self.0.reverse.push((*ip, base.clone()));
        }
        let ports = spec.ports.iter().flatten().filter(|_| !ips.is_empty());
        for port in ports {
            let Ok(number) = u16::try_from(port.port) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
            let targets = [(base.clone(), number, ips.clone())];
            // Asked of the Service itself, SRV tells all of its ports.
            self.service_port(base, &targets);
            if let Some(name) = port.name.as_deref().and_then(|port| port_name(base, port, &protocol)) {
                self.service_port(&name, &targets);
            }
        }
    }

    fn headless(&mut self, base: &Name, endpoints: &Endpoints) {
        for ip in endpoints.keys().map(|(ip, _)| *ip).collect::<BTreeSet<_>>() {
            self.address(base, ip);
        }
        let mut ports: BTreeMap<(&str, &str), Vec<Target>> = BTreeMap::new();
        for ((ip, host), offered) in endpoints {
            let Some(target) = child(base, host) else { continue };
            for (port, protocol, number) in offered {
                ports.entry((port, protocol)).or_default().push((target.clone(), *number, vec![*ip]));
            }
        }
        for ((port, protocol), targets) in ports {
            self.service_port(base, &targets);
            if let Some(name) = port_name(base, port, protocol) {
                self.service_port(&name, &targets);
            }
        }
    }

    fn service_port(&mut self, name: &Name, targets: &[Target]) {
        let weight = u16::try_from(SRV_WEIGHT / targets.len().max(1)).unwrap_or_default();
        for (target, port, ips) in targets {
            self.add(name, RData::SRV(SRV::new(0, weight, *port, target.clone())));
            let entry = self.0.forward.entry(LowerName::new(name)).or_default();
            for ip in ips {
                let glue = Record::from_rdata(target.clone(), TTL, address_data(*ip));
                // Several ports of one target share its address; targets come one after the other.
                if !entry.glue.iter().rev().take(ips.len()).any(|known| *known == glue) {
                    entry.glue.push(glue);
                }
            }
        }
    }
}

/// `_<port>._<protocol>.<base>`
fn port_name(base: &Name, port: &str, protocol: &str) -> Option<Name> {
    let protocol = child(base, &format!("_{protocol}"))?;
    child(&protocol, &format!("_{port}")).filter(|_| !port.is_empty())
}
