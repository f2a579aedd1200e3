//! Endpoints: the older, single-object form of EndpointSlices. Kept for what still reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::meta::Meta;
use crate::plan::{Op, Plan};
use crate::pods;
use crate::service_pods::{self, HEADLESS_LABEL, Port};

/// More addresses than this are cut off, with an annotation that says so.
const MAX_ADDRESSES: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
pub const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub struct Observed<'a> {
    /// `None` once the Service is gone.
    pub service: Option<&'a Service>,
    pub endpoints: Option<&'a Endpoints>,
    /// Pods the Service selects.
    pub pods: &'a [Arc<Pod>],
}

/// Addresses that offer the same ports, by IP; ready ones and others apart.
#[derive(Default)]
struct Group {
    ready: BTreeMap<String, EndpointAddress>,
    not_ready: BTreeMap<String, EndpointAddress>,
}

pub fn plan(observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let Some(service) = observed.service else {
        // Nobody else made an object of this label; others are their author's.
        let ours = observed.endpoints.filter(|endpoints| endpoints.label(MANAGED_BY) == Some(CONTROLLER));
        plan.ops.extend(ours.map(Op::delete));
        return plan;
    };
    if service_pods::managed_selector(service).is_none() {
        return plan;
    }
    let (subsets, truncated) = subsets(service, observed.pods);
    let wanted = wanted(service, observed.endpoints, subsets, truncated);
    match observed.endpoints {
        None => plan.push(Op::create(&wanted)),
        Some(current) if *current != wanted => plan.push(Op::update(&wanted)),
        Some(_) => {}
    }
    plan
}

fn wanted(service: &Service, current: Option<&Endpoints>, subsets: Vec<EndpointSubset>, cut: bool) -> Endpoints {
    let mut labels = service.meta().labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    } else {
        labels.remove(HEADLESS_LABEL);
    }
    let mut annotations = service.meta().annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    annotations.remove(LAST_CHANGE);
    if cut {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    }
    let mut metadata = current.map_or_else(
        || ObjectMeta {
            name: service.meta().name.clone(),
            namespace: service.meta().namespace.clone(),
            ..ObjectMeta::default()
        },
        |endpoints| endpoints.metadata.clone(),
    );
    metadata.labels = Some(labels);
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    Endpoints { metadata, subsets: (!subsets.is_empty()).then_some(subsets) }
}

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let unready_too = service_pods::publishes_not_ready(service);
    let headless_without_ports = service_pods::is_headless(service)
        && service.spec.as_ref().is_none_or(|spec| spec.ports.as_ref().is_none_or(Vec::is_empty));
    // Every address with all ports it offers, so that addresses alike share a subset.
    let mut offers: BTreeMap<String, (EndpointAddress, bool, BTreeSet<Port>)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| service_pods::has_endpoint(pod, unready_too)) {
        let ports = service_pods::ports(service, pod);
        let Some(address) = address(service, pod).filter(|_| !ports.is_empty() || headless_without_ports) else {
            continue;
        };
        let ready = unready_too || pods::is_ready(pod);
        let key = format!("{}/{}", address.ip, pod.uid());
        offers.entry(key).or_insert((address, ready, BTreeSet::new())).2.extend(ports);
    }
    let total = offers.len();
    let mut groups: BTreeMap<BTreeSet<Port>, Group> = BTreeMap::new();
    // Ready addresses are kept first when there are too many.
    let (ready, rest): (Vec<_>, Vec<_>) = offers.into_iter().partition(|(_, (_, ready, _))| *ready);
    for (key, (address, ready, ports)) in ready.into_iter().chain(rest).take(MAX_ADDRESSES) {
        let group = groups.entry(ports).or_default();
        if ready { &mut group.ready } else { &mut group.not_ready }.insert(key, address);
    }
    (groups.into_iter().map(|(ports, group)| subset(ports, group)).collect(), total > MAX_ADDRESSES)
}

fn subset(ports: BTreeSet<Port>, group: Group) -> EndpointSubset {
    let list = |map: BTreeMap<String, EndpointAddress>| (!map.is_empty()).then(|| map.into_values().collect());
    let ports: Vec<EndpointPort> = ports
        .into_iter()
        .map(|port| EndpointPort {
            name: Some(port.name).filter(|name| !name.is_empty()),
            port: port.number,
            protocol: Some(port.protocol),
            app_protocol: port.app_protocol,
        })
        .collect();
    EndpointSubset {
        addresses: list(group.ready),
        not_ready_addresses: list(group.not_ready),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

/// The address of the Service's first IP family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let v6 =
        service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()?.first().cloned()).as_deref() == Some("IPv6");
    let ip = service_pods::addresses(pod).into_iter().find(|ip| ip.contains(':') == v6)?;
    Some(EndpointAddress {
        ip: ip.to_owned(),
        node_name: Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
        target_ref: Some(service_pods::target_ref(pod)),
        hostname: service_pods::hostname(service, pod),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, writes};
    use serde_json::json;

    fn pod(name: &str, ip: &str, ready: bool) -> Arc<Pod> {
        let mut pod = (*crate::testing::pod(name, "o", json!({"app": "web"}), "Running", ready)).clone();
        pod.status.get_or_insert_default().pod_ip = Some(ip.into());
        Arc::new(pod)
    }

    fn service() -> Service {
        object(json!({
            "metadata": {"name": "web", "namespace": "ns", "labels": {"a": "b"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }))
    }

    #[test]
    fn ready_and_unready_stand_apart() {
        let service = service();
        let pods = [pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", false)];
        let created = plan(&Observed { service: Some(&service), endpoints: None, pods: &pods });
        let crate::plan::Verb::Create(value) = &created.ops[0].verb else { panic!("{created:?}") };
        let subset = &value["subsets"][0];
        assert_eq!(subset["addresses"][0]["ip"], "10.0.0.1");
        assert_eq!(subset["notReadyAddresses"][0]["targetRef"]["name"], "b");
        assert_eq!(value["metadata"]["labels"], json!({"a": "b", MANAGED_BY: CONTROLLER}));
        let current: Endpoints = object(value.clone());
        let again = plan(&Observed { service: Some(&service), endpoints: Some(&current), pods: &pods });
        assert!(again.is_empty());
        let gone = plan(&Observed { service: None, endpoints: Some(&current), pods: &[] });
        assert_eq!(writes(&gone), ["delete endpoints/web"]);
    }

    #[test]
    fn too_many_are_cut_off_and_said() {
        let pods: Vec<Arc<Pod>> =
            (0..1001).map(|n| pod(&format!("p{n}"), &format!("10.0.{}.{}", n / 256, n % 256), true)).collect();
        let service = service();
        let plan = plan(&Observed { service: Some(&service), endpoints: None, pods: &pods });
        let crate::plan::Verb::Create(value) = &plan.ops[0].verb else { panic!("created") };
        assert_eq!(value["subsets"][0]["addresses"].as_array().map(Vec::len), Some(1000));
        assert_eq!(value["metadata"]["annotations"][OVER_CAPACITY], "truncated");
    }
}
