//! What a pod asks for and a node has: milli-CPU, bytes, and counts of everything else.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::{milli_value, value};

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const PODS: &str = "pods";

/// What a container without a request is taken to use when nodes are scored (never when they are filtered):
/// a node full of such pods should not look empty.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

type List = BTreeMap<String, Quantity>;

/// Amounts by resource. CPU is in thousandths of a core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub scalars: BTreeMap<Box<str>, i64>,
}

impl Resources {
    pub fn new(list: Option<&List>) -> Self {
        let mut resources = Resources::default();
        for (name, quantity) in list.into_iter().flatten() {
            let amount = if name == CPU { milli_value(quantity) } else { value(quantity) };
            *resources.slot(name) = amount;
        }
        resources
    }

    pub fn get(&self, name: &str) -> i64 {
        match name {
            CPU => self.milli_cpu,
            MEMORY => self.memory,
            EPHEMERAL_STORAGE => self.ephemeral_storage,
            _ => self.scalars.get(name).copied().unwrap_or(0),
        }
    }

    fn slot(&mut self, name: &str) -> &mut i64 {
        match name {
            CPU => &mut self.milli_cpu,
            MEMORY => &mut self.memory,
            EPHEMERAL_STORAGE => &mut self.ephemeral_storage,
            _ => self.scalars.entry(name.into()).or_default(),
        }
    }

    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalars.values().all(|amount| *amount == 0)
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    pub fn maximum(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, with: fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let slot = self.slot(name);
            *slot = with(*slot, *amount);
        }
    }

    fn or_defaults(mut self, list: Option<&List>) -> Self {
        let names = |name| list.is_some_and(|l| l.contains_key(name));
        if !names(CPU) {
            self.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !names(MEMORY) {
            self.memory = DEFAULT_MEMORY;
        }
        self
    }
}

/// A pod's requests: exact for filtering, and with defaults for what was left out for scoring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub exact: Resources,
    pub assumed: Resources,
}

impl Requests {
    pub fn new(pod: &core::Pod) -> Self {
        Requests { exact: pod_requests(pod, false), assumed: pod_requests(pod, true) }
    }
}

/// The larger of what runs together at the end (containers and sidecars) and the peak of any init container
/// with the sidecars started before it; a pod-level request overrides, the overhead comes on top.
fn pod_requests(pod: &core::Pod, fill: bool) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let pod_level = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let status = pod.status.as_ref();
    let of = |container: &core::Container, statuses: Option<&Vec<core::ContainerStatus>>| {
        let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let mut requests = Resources::new(list);
        if let Some(status) = statuses.into_iter().flatten().find(|s| s.name == container.name) {
            requests.maximum(&Resources::new(status.allocated_resources.as_ref()));
            requests.maximum(&Resources::new(status.resources.as_ref().and_then(|r| r.requests.as_ref())));
        }
        if fill && pod_level.is_none() { requests.or_defaults(list) } else { requests }
    };
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of(container, status.and_then(|s| s.container_statuses.as_ref())));
    }
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let requests = of(container, status.and_then(|s| s.init_container_statuses.as_ref()));
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&requests);
            sidecars.add(&requests);
            peak.maximum(&sidecars);
        } else {
            let mut here = sidecars.clone();
            here.add(&requests);
            peak.maximum(&here);
        }
    }
    total.maximum(&peak);
    override_with_pod_level(&mut total, pod_level);
    total.add(&Resources::new(spec.overhead.as_ref()));
    total
}

fn override_with_pod_level(total: &mut Resources, pod_level: Option<&List>) {
    let given = Resources::new(pod_level);
    for name in pod_level.into_iter().flatten().map(|(name, _)| name) {
        if name == CPU || name == MEMORY || name.starts_with("hugepages-") {
            *total.slot(name) = given.get(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, exact: (i64, i64), assumed: (i64, i64)) {
        let pod: core::Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        let got = Requests::new(&pod);
        assert_eq!((got.exact.milli_cpu, got.exact.memory), exact, "exact requests of {spec}");
        assert_eq!((got.assumed.milli_cpu, got.assumed.memory), assumed, "assumed requests of {spec}");
    }

    fn container(name: &str, requests: Value) -> Value {
        json!({"name": name, "resources": {"requests": requests}})
    }

    fn sidecar(name: &str, requests: Value) -> Value {
        json!({"name": name, "restartPolicy": "Always", "resources": {"requests": requests}})
    }

    #[test]
    fn requests_of_pods() {
        check(json!({"containers": [{"name": "a"}]}), (0, 0), (100, DEFAULT_MEMORY));
        check(
            json!({"containers": [container("a", json!({"cpu": "1"})), container("b", json!({"memory": "10"}))]}),
            (1000, 10),
            (1100, DEFAULT_MEMORY + 10),
        );
        // An init container's peak counts when it is higher than what runs later.
        let whole = |cpu: &str| json!({"cpu": cpu, "memory": "1"});
        check(
            json!({"containers": [container("a", whole("1"))], "initContainers": [container("i", whole("3"))]}),
            (3000, 1),
            (3000, 1),
        );
        // A sidecar runs beside the init containers after it and beside the containers.
        check(
            json!({
                "containers": [container("a", whole("1"))],
                "initContainers": [sidecar("s", whole("1")), container("i", whole("3"))],
            }),
            (4000, 2),
            (4000, 2),
        );
        check(json!({"containers": [container("a", whole("1"))], "overhead": {"cpu": "250m"}}), (1250, 1), (1250, 1));
        check(
            json!({"containers": [{"name": "a"}], "resources": {"requests": {"cpu": "2", "memory": "5"}}}),
            (2000, 5),
            (2000, 5),
        );
    }

    #[test]
    fn a_resize_in_progress_counts_the_larger_amount() {
        let pod: core::Pod = serde_json::from_value(json!({
            "spec": {"containers": [container("a", json!({"cpu": "1"}))]},
            "status": {"containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "2"},
            }]},
        }))
        .expect("a pod");
        assert_eq!(Requests::new(&pod).exact.milli_cpu, 2000);
    }
}
