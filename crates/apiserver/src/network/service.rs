//! Cluster IPs and node ports of services. The allocators live in memory, are filled from the cache at start and are
//! the only ones (one API server at a time allocates); a number taken for a write that then fails is given back.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::field::{Error, Path};
use api::{ApiError, ErrorList, meta};
use ipnet::IpNet;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::allocator::{self, Allocator};
use crate::catalog::Kind;
use crate::state::Api;

struct Pools {
    ips: Allocator,
    ports: Allocator,
}

pub struct Services {
    range: IpNet,
    pools: Arc<Mutex<Pools>>,
}

/// One number of one of the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Ip(u32),
    Port(u32),
}

/// What a write has taken, given back unless kept; what it gives up is only given up when it is kept.
pub struct Allocated {
    pools: Arc<Mutex<Pools>>,
    taken: Vec<Number>,
    given_up: Vec<Number>,
    kept: bool,
    dry_run: bool,
}

impl Allocated {
    /// The write went through.
    pub fn keep(mut self) {
        self.kept = !self.dry_run;
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        let numbers = if self.kept { &self.given_up } else { &self.taken };
        let mut pools = self.pools.lock();
        for number in numbers {
            pools.release(*number);
        }
    }
}

impl Pools {
    fn release(&mut self, number: Number) {
        match number {
            Number::Ip(n) => self.ips.release(n),
            Number::Port(n) => self.ports.release(n),
        }
    }
}

impl Services {
    /// The first and last address of the range are never given.
    pub fn new(range: IpNet, ports: (u16, u16)) -> Result<Self, String> {
        let IpNet::V4(v4) = range else { return Err("an IPv6 service range is not supported".to_owned()) };
        let (from, to) = (u32::from(v4.network()) + 1, u32::from(v4.broadcast()) - 1);
        let ports = Allocator::new(ports.0.into(), ports.1.into());
        let pools = Pools { ips: Allocator::new(from, to), ports };
        Ok(Self { range, pools: Arc::new(Mutex::new(pools)) })
    }

    /// The address of the `kubernetes` service: the first of the range.
    pub fn kubernetes_ip(&self) -> IpAddr {
        match self.range {
            IpNet::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4.network()) + 1)),
            IpNet::V6(v6) => IpAddr::V6(v6.network()),
        }
    }

    /// Takes what existing services have.
    pub fn rebuild(&self, api: &Api) {
        let mut pools = self.pools.lock();
        for entry in api.builtin("services/specs").all() {
            let service = entry.value();
            for number in numbers(&service) {
                let taken = match number {
                    Number::Ip(n) => pools.ips.take(n),
                    Number::Port(n) => pools.ports.take(n),
                };
                if let Err(error) = taken {
                    tracing::warn!(service = %entry.key, ?number, ?error, "a service has what it should not have");
                }
            }
        }
    }

    /// Gives back what a deleted service had.
    pub fn release(&self, kind: &Kind, service: &Value, dry_run: bool) {
        if dry_run || !kind.is("", "services") {
            return;
        }
        let mut pools = self.pools.lock();
        for number in numbers(service) {
            pools.release(number);
        }
    }

    /// Completes a service with addresses and ports.
    pub fn allocate(
        &self,
        kind: &Kind,
        old: Option<&Value>,
        service: &mut Value,
        dry_run: bool,
    ) -> Result<Allocated, ApiError> {
        let mut allocated =
            Allocated { pools: self.pools.clone(), taken: Vec::new(), given_up: Vec::new(), kept: false, dry_run };
        if !kind.is("", "services") || !service.get("spec").is_some_and(Value::is_object) {
            return Ok(allocated);
        }
        settle(service, old);
        let had = old.map(numbers).unwrap_or_default();
        let mut errors = ErrorList::new();
        {
            let mut pools = self.pools.lock();
            self.allocate_ip(&mut pools, service, &had, &mut allocated, &mut errors);
            allocate_ports(&mut pools, service, &had, &mut allocated, &mut errors);
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Service", meta::name(service), &errors));
        }
        if !dry_run {
            let has = numbers(service);
            allocated.given_up = had.into_iter().filter(|n| !has.contains(n)).collect();
        }
        Ok(allocated)
    }

    fn allocate_ip(
        &self,
        pools: &mut Pools,
        service: &mut Value,
        had: &[Number],
        allocated: &mut Allocated,
        errors: &mut ErrorList,
    ) {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" || spec["clusterIP"] == "None" {
            return;
        }
        let path = Path::new("spec").child("clusterIPs");
        let given = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        if given.is_empty() {
            match pools.ips.next(rand::random()) {
                Ok(number) => {
                    allocated.taken.push(Number::Ip(number));
                    let address = Ipv4Addr::from(number).to_string();
                    spec["clusterIP"] = address.as_str().into();
                    spec["clusterIPs"] = json!([address]);
                }
                Err(_) => errors.push(Error::internal(&path, "failed to allocate a serviceIP: range is full")),
            }
            return;
        }
        let Ok(address) = given.parse::<Ipv4Addr>() else { return };
        let number = u32::from(address);
        if had.contains(&Number::Ip(number)) {
            return;
        }
        let failed = |why: &str| format!("failed to allocate IP {given}: {why}");
        match pools.ips.take(number) {
            Ok(()) => allocated.taken.push(Number::Ip(number)),
            Err(allocator::Error::Taken) => {
                errors.push(Error::invalid(&path, vec![given.clone()], &failed("provided IP is already allocated")));
            }
            Err(_) => {
                let why = format!("provided IP is not in the valid range. The range of valid IPs is {}", self.range);
                errors.push(Error::invalid(&path, vec![given.clone()], &failed(&why)));
            }
        }
    }
}

/// Fields that follow from the type and from the old service.
fn settle(service: &mut Value, old: Option<&Value>) {
    let spec = &mut service["spec"];
    let external = spec["type"] == "ExternalName";
    let fields = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"];
    if external {
        if let Some(map) = spec.as_object_mut() {
            for field in fields {
                map.remove(field);
            }
        }
        return;
    }
    // Absent in an update means unchanged, as long as the old service had an address.
    if let Some(old) = old.map(|o| &o["spec"]).filter(|o| o["type"] != "ExternalName") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
            if spec[field].is_null()
                && !old[field].is_null()
                && (field != "healthCheckNodePort" || spec["type"] == "LoadBalancer")
            {
                spec[field] = old[field].clone();
            }
        }
        keep_ports(spec, old);
    }
    match (spec["clusterIP"].as_str().unwrap_or_default().to_owned(), spec["clusterIPs"][0].as_str().map(str::to_owned))
    {
        (ip, None) if !ip.is_empty() => spec["clusterIPs"] = json!([ip]),
        (ip, Some(first)) if ip.is_empty() => spec["clusterIP"] = first.into(),
        _ => {}
    }
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    if spec["internalTrafficPolicy"].is_null() {
        spec["internalTrafficPolicy"] = "Cluster".into();
    }
    // Nulls were made by looking; they are no fields.
    if let Some(map) = spec.as_object_mut() {
        map.retain(|_, v| !v.is_null());
    }
}

/// A port that names no node port keeps the one it had.
fn keep_ports(spec: &mut Value, old: &Value) {
    if !wants_ports(spec) || !wants_ports(old) {
        return;
    }
    let before = old["ports"].as_array().cloned().unwrap_or_default();
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].as_u64().unwrap_or(0) == 0 {
            let same = |o: &&Value| o["port"] == port["port"] && o["protocol"] == port["protocol"];
            if let Some(found) = before.iter().find(same).filter(|o| !o["nodePort"].is_null()) {
                port["nodePort"] = found["nodePort"].clone();
            }
        }
        if let Some(map) = port.as_object_mut() {
            map.retain(|_, v| !v.is_null());
        }
    }
}

fn wants_ports(spec: &Value) -> bool {
    spec["type"] == "NodePort"
        || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != Value::Bool(false))
}

fn allocate_ports(
    pools: &mut Pools,
    service: &mut Value,
    had: &[Number],
    allocated: &mut Allocated,
    errors: &mut ErrorList,
) {
    let wanted = wants_ports(&service["spec"]);
    let ports = service["spec"]["ports"].as_array_mut();
    // One number may serve two protocols of the same service.
    let mut own: Vec<u32> = Vec::new();
    for (at, port) in ports.into_iter().flatten().enumerate() {
        let given = port["nodePort"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        if given == 0 {
            match wanted.then(|| pools.ports.next(rand::random())) {
                Some(Ok(number)) => {
                    allocated.taken.push(Number::Port(number));
                    port["nodePort"] = number.into();
                }
                Some(Err(_)) => {
                    let path = Path::new("spec").child("ports").index(at).child("nodePort");
                    errors.push(Error::internal(&path, "failed to allocate a nodePort: range is full"));
                }
                None => {
                    if let Some(map) = port.as_object_mut() {
                        map.retain(|_, v| !v.is_null());
                    }
                }
            }
            continue;
        }
        if had.contains(&Number::Port(given)) || own.contains(&given) {
            own.push(given);
            continue;
        }
        let path = Path::new("spec").child("ports").index(at).child("nodePort");
        let outside =
            format!("provided port is not in the valid range. The range of valid ports is {}", pools.ports.range());
        match pools.ports.take(given) {
            Ok(()) => {
                allocated.taken.push(Number::Port(given));
                own.push(given);
            }
            Err(allocator::Error::Taken) => {
                errors.push(Error::invalid(&path, given, "provided port is already allocated"))
            }
            Err(_) => errors.push(Error::invalid(&path, given, &outside)),
        }
    }
}

/// What a service holds.
fn numbers(service: &Value) -> Vec<Number> {
    let spec = &service["spec"];
    let ip = spec["clusterIP"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok()).map(|ip| Number::Ip(ip.into()));
    let ports = spec["ports"].as_array().into_iter().flatten();
    let ports = ports.filter_map(|p| p["nodePort"].as_u64()).filter(|n| *n > 0).filter_map(|n| u32::try_from(n).ok());
    let mut all: Vec<Number> = ip.into_iter().chain(ports.map(Number::Port)).collect();
    let mut seen = Vec::new();
    all.retain(|n| {
        !seen.contains(n) && {
            seen.push(*n);
            true
        }
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_the_type() {
        let check = |spec: Value, old: Option<Value>, expected: Value| {
            let mut service = json!({"spec": spec});
            settle(&mut service, old.map(|o| json!({"spec": o})).as_ref());
            assert_eq!(service["spec"], expected);
        };
        let settled = json!({"type": "ClusterIP", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"});
        check(json!({"type": "ClusterIP", "clusterIP": "10.0.0.5"}), None, settled.clone());
        check(json!({"type": "ClusterIP"}), Some(settled.clone()), settled);
        check(json!({"type": "ExternalName", "clusterIP": "10.0.0.5"}), None, json!({"type": "ExternalName"}));
    }

    #[test]
    fn a_service_holds_each_number_once() {
        let service = json!({"spec": {"clusterIP": "10.0.0.1", "ports": [
            {"nodePort": 30000, "protocol": "TCP"}, {"nodePort": 30000, "protocol": "UDP"}, {"port": 1},
        ]}});
        assert_eq!(numbers(&service), [Number::Ip(0x0a00_0001), Number::Port(30000)]);
    }
}
