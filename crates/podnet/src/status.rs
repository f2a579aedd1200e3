//! The node's condition `NetworkUnavailable`: set to False once its pods can be reached.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

const CONDITION: &str = "NetworkUnavailable";
const REASON: &str = "RouteCreated";
const MESSAGE: &str = "kube-podnet created routes";

/// The patch that says so, or None when the node says so already.
pub fn patch(node: &Node, now: jiff::Timestamp) -> Option<Value> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let present = conditions.into_iter().flatten().find(|condition| condition.type_ == CONDITION);
    if present.is_some_and(|condition| condition.status == "False" && condition.reason.as_deref() == Some(REASON)) {
        return None;
    }
    let transition = match present {
        Some(condition) if condition.status == "False" => json!(condition.last_transition_time),
        _ => json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
    };
    Some(json!({"status": {"conditions": [{
        "type": CONDITION,
        "status": "False",
        "reason": REASON,
        "message": MESSAGE,
        "lastHeartbeatTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now),
        "lastTransitionTime": transition,
    }]}}))
}

pub async fn report(nodes: &Api<Node>, node: &Node) -> Result<(), kube::Error> {
    let Some(patch) = patch(node, jiff::Timestamp::now()) else { return Ok(()) };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_written_once_and_keeps_its_transition() {
        let check = |conditions: Value, transition: Option<&str>| {
            let node = serde_json::from_value(json!({"metadata": {}, "status": {"conditions": conditions}}));
            let patch = patch(&node.expect("a Node"), "2026-01-02T03:04:05Z".parse().expect("a time"));
            let written = patch.map(|patch| patch["status"]["conditions"][0]["lastTransitionTime"].clone());
            assert_eq!(written, transition.map(Value::from));
        };
        let condition = |status: &str, reason: &str| {
            json!([{"type": CONDITION, "status": status, "reason": reason,
                    "lastTransitionTime": "2025-01-01T00:00:00Z"}])
        };
        check(json!([]), Some("2026-01-02T03:04:05Z"));
        check(condition("True", "NoRouteCreated"), Some("2026-01-02T03:04:05Z"));
        check(condition("False", "Other"), Some("2025-01-01T00:00:00Z"));
        check(condition("False", REASON), None);
    }
}
