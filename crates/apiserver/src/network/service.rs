//! Cluster IPs and node ports of services. Ports are given by allocators in memory, which are filled from the cache at
//! start; addresses are objects of their own ([`addresses`]). What is taken for a write that then fails is given back.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::field::{Error, Path};
use api::{ApiError, ErrorList, meta};
use ipnet::IpNet;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::addresses;
use super::allocator::{self, Allocator};
use crate::catalog::Kind;
use crate::state::Api;

pub struct Services {
    range: IpNet,
    ports: Arc<Mutex<Allocator>>,
}

/// What a service has.
#[derive(Debug, Default)]
struct Held {
    address: Option<Ipv4Addr>,
    ports: Vec<u32>,
}

impl Held {
    fn of(service: &Value) -> Held {
        Held { address: addresses::address_of(service), ports: ports_of(service) }
    }
}

/// What a write has taken, given back unless it goes through; what it gives up is only given up if it does.
#[must_use = "addresses are given back by settling"]
pub struct Allocated {
    pools: Arc<Mutex<Allocator>>,
    taken: Held,
    given_up: Held,
    kept: bool,
    dry_run: bool,
}

impl Allocated {
    /// The write went through, or it did not.
    pub async fn settle(mut self, api: &Api, done: bool) {
        self.kept = done && !self.dry_run;
        let unused = if self.kept { self.given_up.address } else { self.taken.address };
        drop(self);
        addresses::release(api, unused.as_slice()).await;
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        let unused = if self.kept { &self.given_up.ports } else { &self.taken.ports };
        let mut ports = self.pools.lock();
        unused.iter().for_each(|port| ports.release(*port));
    }
}

impl Services {
    pub fn new(range: IpNet, ports: (u16, u16)) -> Result<Self, String> {
        if range.addr().is_ipv6() {
            return Err("an IPv6 service range is not supported".to_owned());
        }
        let ports = Allocator::new(ports.0.into(), ports.1.into());
        Ok(Self { range, ports: Arc::new(Mutex::new(ports)) })
    }

    /// The address of the `kubernetes` service: the first of the range.
    pub fn kubernetes_ip(&self) -> IpAddr {
        match self.range {
            IpNet::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4.network()) + 1)),
            IpNet::V6(v6) => IpAddr::V6(v6.network()),
        }
    }

    /// Takes the ports that existing services have.
    pub fn rebuild(&self, api: &Api) {
        let mut ports = self.ports.lock();
        for entry in api.builtin("services/specs").all() {
            for number in ports_of(&entry.value()) {
                if let Err(error) = ports.take(number) {
                    tracing::warn!(service = %entry.key, number, ?error, "a service has a port that it should not have");
                }
            }
        }
    }

    /// Gives back what a deleted service had.
    pub async fn release(&self, api: &Api, kind: &Kind, service: &Value, dry_run: bool) {
        if dry_run || !kind.is("", "services") {
            return;
        }
        let Held { address, ports } = Held::of(service);
        ports.into_iter().for_each(|port| self.ports.lock().release(port));
        addresses::release(api, address.as_slice()).await;
    }

    /// Completes a service with addresses and ports.
    pub async fn allocate(
        &self,
        api: &Api,
        kind: &Kind,
        old: Option<&Value>,
        service: &mut Value,
        dry_run: bool,
    ) -> Result<Allocated, ApiError> {
        let (taken, given_up) = (Held::default(), Held::default());
        let mut allocated = Allocated { pools: self.ports.clone(), taken, given_up, kept: false, dry_run };
        if !kind.is("", "services") || !service.get("spec").is_some_and(Value::is_object) {
            return Ok(allocated);
        }
        settle(service, old);
        let had = old.map(Held::of).unwrap_or_default();
        let mut errors = ErrorList::new();
        allocate_ports(&mut self.ports.lock(), service, &had.ports, &mut allocated.taken.ports, &mut errors);
        if errors.is_empty() {
            allocated.taken.address = allocate_address(api, service, &had, dry_run, &mut errors).await?;
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Service", meta::name(service), &errors));
        }
        let has = Held::of(service);
        allocated.given_up.address = had.address.filter(|address| has.address != Some(*address));
        allocated.given_up.ports = had.ports.into_iter().filter(|port| !has.ports.contains(port)).collect();
        Ok(allocated)
    }
}

/// What is taken, to be given back if the service is not written.
async fn allocate_address(
    api: &Api,
    service: &mut Value,
    had: &Held,
    dry_run: bool,
    errors: &mut ErrorList,
) -> Result<Option<Ipv4Addr>, ApiError> {
    if service["spec"]["type"] == "ExternalName" || service["spec"]["clusterIP"] == "None" {
        return Ok(None);
    }
    let path = Path::new("spec").child("clusterIPs");
    let given = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let failed = |why: &str| format!("failed to allocate IP {given}: {why}");
    let taken = if given.is_empty() {
        addresses::next(api, rand::random(), service, dry_run).await
    } else {
        let Ok(address) = given.parse::<Ipv4Addr>() else { return Ok(None) };
        if had.address == Some(address) {
            return Ok(None);
        }
        addresses::take(api, address, service, dry_run).await.map(|()| address)
    };
    match taken {
        Ok(address) => {
            service["spec"]["clusterIP"] = address.to_string().into();
            service["spec"]["clusterIPs"] = json!([address.to_string()]);
            return Ok(Some(address).filter(|_| !dry_run));
        }
        Err(addresses::Error::Full) => {
            errors.push(Error::internal(&path, "failed to allocate a serviceIP: range is full"));
        }
        Err(addresses::Error::Taken) => {
            errors.push(Error::invalid(&path, vec![given.clone()], &failed("provided IP is already allocated")));
        }
        Err(addresses::Error::OutOfRange) => {
            let ranges = addresses::ranges(api).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let why = format!("provided IP is not in the valid range. The range of valid IPs is {ranges}");
            errors.push(Error::invalid(&path, vec![given.clone()], &failed(&why)));
        }
        Err(addresses::Error::Api(error)) => return Err(error),
    }
    Ok(None)
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
    pool: &mut Allocator,
    service: &mut Value,
    had: &[u32],
    taken: &mut Vec<u32>,
    errors: &mut ErrorList,
) {
    let wanted = wants_ports(&service["spec"]);
    let ports = service["spec"]["ports"].as_array_mut();
    // One number may serve two protocols of the same service.
    let mut own: Vec<u32> = Vec::new();
    for (at, port) in ports.into_iter().flatten().enumerate() {
        let path = Path::new("spec").child("ports").index(at).child("nodePort");
        let given = port["nodePort"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        if given == 0 {
            match wanted.then(|| pool.next(rand::random())) {
                Some(Ok(number)) => {
                    taken.push(number);
                    port["nodePort"] = number.into();
                }
                Some(Err(_)) => errors.push(Error::internal(&path, "failed to allocate a nodePort: range is full")),
                None => {
                    if let Some(map) = port.as_object_mut() {
                        map.retain(|_, v| !v.is_null());
                    }
                }
            }
            continue;
        }
        if had.contains(&given) || own.contains(&given) {
            own.push(given);
            continue;
        }
        match pool.take(given) {
            Ok(()) => {
                taken.push(given);
                own.push(given);
            }
            Err(allocator::Error::Taken) => {
                errors.push(Error::invalid(&path, given, "provided port is already allocated"));
            }
            Err(_) => {
                let range = pool.range();
                let outside = format!("provided port is not in the valid range. The range of valid ports is {range}");
                errors.push(Error::invalid(&path, given, &outside));
            }
        }
    }
}

/// Each once.
fn ports_of(service: &Value) -> Vec<u32> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let ports = ports.filter_map(|p| p["nodePort"].as_u64()).filter(|n| *n > 0).filter_map(|n| u32::try_from(n).ok());
    ports.collect::<BTreeSet<_>>().into_iter().collect()
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
        let held = Held::of(&service);
        assert_eq!((held.address, held.ports), (Some(Ipv4Addr::new(10, 0, 0, 1)), vec![30000]));
    }
}
