//! EndpointSlice mirroring: Endpoints that somebody wrote by hand, shown as slices to those who read only these.
//!
//! Only Endpoints of a Service without a selector are mirrored; the pods behind a selector have slices of their own.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoint_slice::{MANAGED_BY, SERVICE_NAME};
use crate::endpoints::{LAST_APPLIED, LAST_CHANGE};
use crate::meta::{Meta, controller_reference};
use crate::plan::{Op, Plan, reference, warning};
use crate::service_pods::HEADLESS_LABEL;

pub const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const ELECTION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Of one subset; the rest is left out.
const MAX_PER_SUBSET: usize = 1000;

pub struct Observed<'a> {
    pub endpoints: Option<&'a Endpoints>,
    pub service: Option<&'a Service>,
    /// Slices that carry the name and this controller's mark.
    pub slices: &'a [Arc<EndpointSlice>],
}

pub fn plan(observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut left: Vec<&Arc<EndpointSlice>> = observed.slices.iter().filter(|slice| !slice.deleting()).collect();
    if let Some(endpoints) = observed.endpoints.filter(|endpoints| is_mirrored(endpoints, observed.service)) {
        for wanted in slices(endpoints) {
            let alike =
                |slice: &&Arc<EndpointSlice>| slice.address_type == wanted.address_type && slice.ports == wanted.ports;
            let op = match left.iter().position(alike) {
                None => Op::create(&wanted),
                Some(at) => match updated(left.swap_remove(at), wanted) {
                    Some(changed) => Op::update(&changed),
                    None => continue,
                },
            };
            plan.push(failing(op, endpoints));
        }
    }
    plan.ops.extend(left.into_iter().map(|slice| Op::delete(slice.as_ref())));
    plan
}

fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let unselective = |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_none());
    !endpoints.deleting()
        && endpoints.label(SKIP) != Some("true")
        && endpoints.annotation(ELECTION).is_none()
        && service.is_some_and(unselective)
}

/// One slice per subset and address family.
fn slices(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let subsets = endpoints.subsets.iter().flatten();
    subsets.flat_map(|subset| ["IPv4", "IPv6"].map(|family| slice(endpoints, subset, family))).flatten().collect()
}

fn slice(endpoints: &Endpoints, subset: &EndpointSubset, family: &str) -> Option<EndpointSlice> {
    let of_family = |address: &&EndpointAddress| address.ip.contains(':') == (family == "IPv6");
    let of = |list: &Option<Vec<EndpointAddress>>, ready: bool| {
        let addresses = list.iter().flatten().filter(of_family);
        addresses.map(|address| endpoint(address, ready)).collect::<Vec<_>>()
    };
    let mut all = of(&subset.addresses, true);
    all.extend(of(&subset.not_ready_addresses, false));
    all.truncate(MAX_PER_SUBSET);
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    });
    (!all.is_empty()).then(|| EndpointSlice {
        metadata: metadata(endpoints),
        address_type: family.to_owned(),
        endpoints: Some(all),
        ports: Some(ports.collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
    })
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let mut labels = endpoints.meta().labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    labels.insert(SERVICE_NAME.into(), endpoints.name().to_owned());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    let mut annotations = endpoints.meta().annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    annotations.remove(LAST_CHANGE);
    ObjectMeta {
        generate_name: Some(format!("{}-", endpoints.name())),
        namespace: endpoints.meta().namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        owner_references: Some(vec![controller_reference(endpoints)]),
        ..ObjectMeta::default()
    }
}

/// The slice as it should be, unless it is so already.
fn updated(current: &EndpointSlice, wanted: EndpointSlice) -> Option<EndpointSlice> {
    let mut changed = current.clone();
    changed.endpoints = wanted.endpoints;
    changed.metadata.labels = wanted.metadata.labels;
    changed.metadata.annotations = wanted.metadata.annotations;
    changed.metadata.owner_references = wanted.metadata.owner_references;
    (changed != *current).then_some(changed)
}

fn failing(op: Op, endpoints: &Endpoints) -> Op {
    let message = format!(
        "Error updating mirrored Endpoint Slices for Endpoints {}/{}: {{error}}",
        endpoints.namespace(),
        endpoints.name()
    );
    op.on_failure(warning(&reference(endpoints), "FailedToUpdateEndpointSlices", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, writes};
    use serde_json::{Value, json};

    fn endpoints(metadata: Value, subsets: Value) -> Endpoints {
        let mut full = json!({"name": "db", "namespace": "ns", "uid": "e"});
        full.as_object_mut().expect("an object").extend(metadata.as_object().expect("an object").clone());
        object(json!({"metadata": full, "subsets": subsets}))
    }

    fn service(selector: Value) -> Service {
        object(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s"}, "spec": {"selector": selector}}))
    }

    fn both() -> Value {
        json!([{
            "addresses": [{"ip": "10.9.0.1"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.9.0.2"}],
            "ports": [{"name": "sql", "port": 5432}],
        }])
    }

    fn made(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
        let mut number = 0;
        let objects = plan.ops.iter().filter_map(|op| match &op.verb {
            crate::plan::Verb::Create(value) => Some(value.clone()),
            _ => None,
        });
        objects
            .map(|mut value| {
                number += 1;
                value["metadata"]["name"] = json!(format!("db-{number}"));
                Arc::new(object(value))
            })
            .collect()
    }

    fn run(endpoints: &Endpoints, service: &Service, slices: &[Arc<EndpointSlice>]) -> Plan {
        plan(&Observed { endpoints: Some(endpoints), service: Some(service), slices })
    }

    #[test]
    fn a_slice_per_family_and_nothing_to_do_twice() {
        let service = service(Value::Null);
        let first = endpoints(json!({}), both());
        let slices = made(&run(&first, &service, &[]));
        let shape = slices.iter().map(|s| (s.address_type.as_str(), s.endpoints.as_ref().map_or(0, Vec::len)));
        assert_eq!(shape.collect::<Vec<_>>(), [("IPv4", 2), ("IPv6", 1)]);
        assert_eq!(slices[0].label(MANAGED_BY), Some(CONTROLLER));
        assert_eq!(slices[0].label(SERVICE_NAME), Some("db"));
        assert!(run(&first, &service, &slices).ops.is_empty());
        let fewer = endpoints(json!({}), json!([{"addresses": [{"ip": "10.9.0.1"}], "ports": both()[0]["ports"]}]));
        let plan = run(&fewer, &service, &slices);
        assert_eq!(writes(&plan), ["update endpointslices/db-1", "delete endpointslices/db-2"]);
    }

    #[test]
    fn who_is_mirrored() {
        let check = |metadata: Value, selector: Value, expected: bool| {
            let plan = run(&endpoints(metadata.clone(), both()), &service(selector.clone()), &[]);
            assert_eq!(!plan.ops.is_empty(), expected, "{metadata} {selector}");
        };
        check(json!({}), Value::Null, true);
        check(json!({}), json!({"app": "db"}), false);
        check(json!({"labels": {SKIP: "true"}}), Value::Null, false);
        check(json!({"annotations": {ELECTION: "{}"}}), Value::Null, false);
        let slices = made(&run(&endpoints(json!({}), both()), &service(Value::Null), &[]));
        let orphaned = plan(&Observed { endpoints: None, service: None, slices: &slices });
        assert_eq!(writes(&orphaned).len(), 2);
    }
}
