//! EndpointSlice: the pods behind a Service, at most a hundred per object.
//!
//! Writes are few: endpoints stay in the slice they are in; newcomers fill slices that change anyway, then one with
//! room, then new ones. Pods being deleted stay listed, as terminating, until they are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::meta::{Meta, controller_reference};
use crate::plan::{Op, Plan, reference, warning};
use crate::pods;
use crate::selector::Labels;
use crate::service_pods::{self, HEADLESS_LABEL, Port};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
const MAX_ENDPOINTS: usize = 100;

pub struct Observed<'a> {
    pub service: &'a Service,
    /// Slices that carry the Service's name and this controller's mark.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Pods the Service selects.
    pub pods: &'a [Arc<Pod>],
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
}

type Endpoints = BTreeMap<String, Endpoint>;

pub fn plan(observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let service = observed.service;
    if service.deleting() || service_pods::managed_selector(service).is_none() {
        return plan;
    }
    let families = families(service);
    for slice in observed.slices.iter().filter(|slice| !families.contains(&slice.address_type)) {
        plan.push(delete(service, slice));
    }
    for family in families {
        plan_family(observed, &family, &mut plan);
    }
    plan
}

fn families(service: &Service) -> Vec<String> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if families.is_empty() { vec!["IPv4".to_owned()] } else { families }
}

fn plan_family(observed: &Observed, family: &str, plan: &mut Plan) {
    let mut wanted: BTreeMap<Vec<Port>, Endpoints> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| service_pods::has_endpoint(pod, true)) {
        if let Some(endpoint) = endpoint(observed, pod, family) {
            let mut ports = service_pods::ports(observed.service, pod);
            ports.sort();
            wanted.entry(ports).or_default().insert(pod.uid().to_owned(), endpoint);
        }
    }
    let mut existing: BTreeMap<Vec<Port>, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in observed.slices.iter().filter(|slice| slice.address_type == family && !slice.deleting()) {
        existing.entry(ports_of(slice)).or_default().push(slice);
    }
    if wanted.is_empty() {
        // A Service without endpoints has one empty slice, which says that this is known.
        wanted.insert(existing.keys().next().cloned().unwrap_or_default(), Endpoints::new());
    }
    for (ports, slices) in &existing {
        if !wanted.contains_key(ports) {
            plan.ops.extend(slices.iter().map(|slice| delete(observed.service, slice)));
        }
    }
    for (ports, endpoints) in wanted {
        let slices = existing.remove(&ports).unwrap_or_default();
        pack(observed.service, family, &ports, endpoints, &slices, plan);
    }
}

/// One slice being worked out.
struct Draft<'a> {
    slice: &'a Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

fn pack(
    service: &Service,
    family: &str,
    ports: &[Port],
    mut wanted: Endpoints,
    slices: &[&Arc<EndpointSlice>],
    plan: &mut Plan,
) {
    let mut drafts: Vec<Draft> = slices.iter().map(|slice| keep(slice, &mut wanted)).collect();
    let mut fresh: Vec<Endpoint> = wanted.into_values().collect();
    for draft in &mut drafts {
        draft.changed |= draft.slice.meta().labels.as_ref() != Some(&labels(service));
        if draft.changed {
            fill(draft, &mut fresh);
        }
    }
    while let Some(draft) = drafts
        .iter_mut()
        .filter(|draft| !fresh.is_empty() && draft.endpoints.len() < MAX_ENDPOINTS)
        .max_by_key(|draft| draft.endpoints.len())
    {
        fill(draft, &mut fresh);
        draft.changed = true;
    }
    let lonely = drafts.iter().all(|draft| draft.endpoints.is_empty()) && fresh.is_empty();
    for (index, draft) in drafts.iter().enumerate() {
        if draft.endpoints.is_empty() && !(lonely && index == 0) {
            plan.push(delete(service, draft.slice));
        } else if draft.changed {
            plan.push(updated(service, draft));
        }
    }
    if drafts.is_empty() && fresh.is_empty() {
        plan.push(created(service, family, ports, &[]));
    }
    for chunk in fresh.chunks(MAX_ENDPOINTS) {
        plan.push(created(service, family, ports, chunk));
    }
}

/// What of a slice stays: endpoints still wanted, in their current form.
fn keep<'a>(slice: &'a Arc<EndpointSlice>, wanted: &mut Endpoints) -> Draft<'a> {
    let old: &[Endpoint] = slice.endpoints.as_deref().unwrap_or_default();
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    let endpoints: Vec<Endpoint> = old.iter().filter_map(|endpoint| wanted.remove(&uid(endpoint)?)).collect();
    let changed = endpoints != old;
    Draft { slice, endpoints, changed }
}

fn fill(draft: &mut Draft, fresh: &mut Vec<Endpoint>) {
    let room = MAX_ENDPOINTS.saturating_sub(draft.endpoints.len()).min(fresh.len());
    draft.endpoints.extend(fresh.drain(..room));
}

fn endpoint(observed: &Observed, pod: &Pod, family: &str) -> Option<Endpoint> {
    let v6 = family == "IPv6";
    let addresses: Vec<String> =
        service_pods::addresses(pod).into_iter().filter(|ip| ip.contains(':') == v6).map(str::to_owned).collect();
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (pods::is_ready(pod), pod.deleting());
    let ready = service_pods::publishes_not_ready(observed.service) || serving && !terminating;
    let node = Some(pods::node_name(pod)).filter(|name| !name.is_empty());
    let zone = node.and_then(observed.node).and_then(|node| node.label(ZONE).map(str::to_owned));
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service_pods::hostname(observed.service, pod),
        node_name: node.map(str::to_owned),
        target_ref: Some(service_pods::target_ref(pod)),
        zone,
        ..Endpoint::default()
    })
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let convert = |port: &EndpointPort| Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        number: port.port.unwrap_or_default(),
        app_protocol: port.app_protocol.clone(),
    };
    let mut ports: Vec<Port> = slice.ports.iter().flatten().map(convert).collect();
    ports.sort();
    ports
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.meta().labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.name().to_owned());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

fn created(service: &Service, family: &str, ports: &[Port], endpoints: &[Endpoint]) -> Op {
    let convert = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.number),
        app_protocol: port.app_protocol.clone(),
    };
    let slice = EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: service.meta().namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints.to_vec()),
        ports: (!ports.is_empty()).then(|| ports.iter().map(convert).collect()),
    };
    failing(Op::create(&slice), service)
}

fn updated(service: &Service, draft: &Draft) -> Op {
    let mut slice = EndpointSlice { endpoints: Some(draft.endpoints.clone()), ..(**draft.slice).clone() };
    slice.metadata.labels = Some(labels(service));
    failing(Op::update(&slice), service)
}

fn delete(service: &Service, slice: &EndpointSlice) -> Op {
    failing(Op::delete(slice), service)
}

fn failing(op: Op, service: &Service) -> Op {
    let message =
        format!("Error updating Endpoint Slices for Service {}/{}: {{error}}", service.namespace(), service.name());
    op.on_failure(warning(&reference(service), "FailedToUpdateEndpointSlices", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, writes};
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        let mut full = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
        full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        object(json!({"metadata": {"name": "web", "namespace": "ns", "uid": "s"}, "spec": full}))
    }

    fn pod(index: usize, ready: bool) -> Arc<Pod> {
        let mut pod =
            (*crate::testing::pod(&format!("p{index}"), "o", json!({"app": "web"}), "Running", ready)).clone();
        pod.status.get_or_insert_default().pod_ip = Some(format!("10.0.{}.{}", index / 256, index % 256));
        Arc::new(pod)
    }

    fn run(service: &Service, slices: &[Arc<EndpointSlice>], pods: &[Arc<Pod>]) -> Plan {
        plan(&Observed { service, slices, pods, node: &|_| None })
    }

    /// The slices a plan leaves behind, from nothing.
    fn created(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
        let objects = plan.ops.iter().filter_map(|op| match &op.verb {
            crate::plan::Verb::Create(value) => Some(value.clone()),
            _ => None,
        });
        objects
            .enumerate()
            .map(|(index, mut value)| {
                value["metadata"]["name"] = json!(format!("web-{index}"));
                Arc::new(object(value))
            })
            .collect()
    }

    #[test]
    fn a_hundred_to_a_slice_and_nothing_to_do_twice() {
        let service = service(json!({}));
        let pods: Vec<Arc<Pod>> = (0..150).map(|index| pod(index, true)).collect();
        let slices = created(&run(&service, &[], &pods));
        let sizes: Vec<usize> = slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
        assert_eq!(sizes, [100, 50]);
        assert!(run(&service, &slices, &pods).ops.is_empty());
        // One gone from the full slice: one update. One new: it fills the slice with room.
        assert_eq!(writes(&run(&service, &slices, &pods[..149])), ["update endpointslices/web-0"]);
        let more: Vec<Arc<Pod>> = (0..151).map(|index| pod(index, true)).collect();
        assert_eq!(writes(&run(&service, &slices, &more)), ["update endpointslices/web-1"]);
    }

    #[test]
    fn no_pods_leave_one_empty_slice() {
        let service = service(json!({}));
        let slices = created(&run(&service, &[], &[]));
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].label(SERVICE_NAME), Some("web"));
        assert!(run(&service, &slices, &[]).ops.is_empty());
        let full = created(&run(&service, &slices, &[pod(1, true)]));
        assert_eq!(full[0].ports.as_ref().expect("one")[0].port, Some(8080));
    }

    fn check(spec: Value, ready: bool, deleting: bool, expected: (bool, bool, bool)) {
        let mut pod = (*pod(1, ready)).clone();
        if deleting {
            pod.metadata.deletion_timestamp = Some(crate::meta::time(crate::testing::at(1)));
        }
        let slices = created(&run(&service(spec), &[], &[Arc::new(pod)]));
        let conditions = slices[0].endpoints.as_ref().expect("one")[0].conditions.clone().expect("always");
        let all = (conditions.ready, conditions.serving, conditions.terminating);
        assert_eq!(all, (Some(expected.0), Some(expected.1), Some(expected.2)));
    }

    #[test]
    fn conditions_of_an_endpoint() {
        check(json!({}), true, false, (true, true, false));
        check(json!({}), false, false, (false, false, false));
        check(json!({}), true, true, (false, true, true));
        check(json!({"publishNotReadyAddresses": true}), false, false, (true, false, false));
        check(json!({"publishNotReadyAddresses": true}), true, true, (true, true, true));
    }

    #[test]
    fn headless_services_are_marked() {
        let slices = created(&run(&service(json!({"clusterIP": "None"})), &[], &[]));
        assert_eq!(slices[0].label(HEADLESS_LABEL), Some(""));
    }
}
