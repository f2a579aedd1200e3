//! SchedulingGates: a pod with gates does not enter the queue until the last is removed.

use crate::event::Event;
use crate::framework::{Plugin, Rejection};
use crate::pod::PodInfo;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        Err(Rejection::unresolvable(format!("waiting for scheduling gates: [{}]", pod.gates.join(" "))))
    }

    /// Only a change of the pod itself opens a gate.
    fn hint(&self, _pod: &PodInfo, _event: Event<'_>) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    #[test]
    fn gates_hold_a_pod_back() {
        let check = |gates: serde_json::Value, expected: Option<&str>| {
            let pod = pod("p", json!({"spec": {"schedulingGates": gates}}));
            let got = SchedulingGates.pre_enqueue(&pod).err().map(|r| r.to_string());
            assert_eq!(got.as_deref(), expected);
        };
        check(json!([]), None);
        check(json!([{"name": "a"}, {"name": "b"}]), Some("waiting for scheduling gates: [a b]"));
    }
}
