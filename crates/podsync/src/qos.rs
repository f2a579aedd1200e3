//! Quality of service: which cgroup a pod lives in and who dies first.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{pod, quantity};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

const COMPUTE: [&str; 2] = ["cpu", "memory"];

fn amount(container: &Container, limits: bool, name: &str) -> i64 {
    let resources = container.resources.as_ref();
    let list = resources.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() });
    quantity::get(list, name).map_or(0, quantity::milli)
}

/// Guaranteed: every container limits CPU and memory and requests just as much.
pub fn class(pod: &Pod) -> Qos {
    let all = || pod::containers(pod).iter().chain(pod::init_containers(pod));
    let asks = |c: &Container| COMPUTE.iter().any(|name| amount(c, true, name) > 0 || amount(c, false, name) > 0);
    if !all().any(asks) {
        return Qos::BestEffort;
    }
    let exact = |c: &Container| {
        COMPUTE.iter().all(|name| {
            let (limit, request) = (amount(c, true, name), amount(c, false, name));
            limit > 0 && (request == limit || request == 0)
        })
    };
    if all().all(exact) { Qos::Guaranteed } else { Qos::Burstable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_of;
    use serde_json::json;

    #[test]
    fn classes() {
        let check = |resources: serde_json::Value, expected: Qos| {
            let pod = pod_of(json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}));
            assert_eq!(class(&pod), expected, "{pod:?}");
        };
        check(json!({}), Qos::BestEffort);
        check(json!({"requests": {"cpu": "1"}}), Qos::Burstable);
        check(json!({"limits": {"cpu": "1"}}), Qos::Burstable);
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), Qos::Guaranteed);
        let lower = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}});
        check(lower, Qos::Burstable);
    }
}
