//! `pods/binding` and the old `bindings`: a pod gets its node, once.

use api::status::GroupResource;
use api::{ApiError, meta};
use http::StatusCode;
use serde_json::{Value, json};

use crate::catalog::Kind;
use crate::http::reply::Reply;
use crate::rest::options::WriteOptions;
use crate::rest::update::{self, Owns, Rules, Target};
use crate::rest::write::Writer;
use crate::rest::{Call, decode};

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, request, .. } = call;
    let options = WriteOptions::parse(&request.query, "CreateOptions")?;
    let row = &api.kind("", "v1", "bindings").row;
    let binding = decode::object(&api.catalog, request, row, options.field_validation).await?;
    let name = meta::name(&binding);
    if !name.is_empty() && name != request.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.info.name
        )));
    }
    bind(call, call.kind, &request.info.name, &binding, options).await
}

pub async fn legacy(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let options = WriteOptions::parse(&request.query, "CreateOptions")?;
    let binding = decode::object(&api.catalog, request, &kind.row, options.field_validation).await?;
    bind(call, api.kind("", "v1", "pods"), meta::name(&binding), &binding, options).await
}

async fn bind(
    call: &Call<'_>,
    pods: &Kind,
    name: &str,
    binding: &Value,
    options: WriteOptions,
) -> Result<Reply, ApiError> {
    let Call { api, request, .. } = call;
    check_target(binding)?;
    let writer = Writer::of(request, options.dry_run);
    let now = meta::format_time(request.now);
    let target = Target {
        kind: pods,
        namespace: &request.info.namespace,
        name,
        subresource: "binding",
        rules: Rules::Trusted,
        conditional: false,
        owns: Owns::Settled,
    };
    update::update(api, &writer, &target, &|pod| bound(pods, pod, binding, &now)).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Reply::json(StatusCode::CREATED, &status))
}

fn check_target(binding: &Value) -> Result<(), ApiError> {
    let target = &binding["target"];
    let kind = target["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        return Err(ApiError::new(
            422,
            "Invalid",
            format!(
                "Binding \"{}\" is invalid: target.kind: Unsupported value: {kind:?}: supported values: \"Node\", \"\"",
                meta::name(binding)
            ),
        ));
    }
    if target["name"].as_str().unwrap_or_default().is_empty() {
        return Err(ApiError::new(
            422,
            "Invalid",
            format!("Binding \"{}\" is invalid: target.name: Required value", meta::name(binding)),
        ));
    }
    Ok(())
}

fn bound(pods: &Kind, pod: &Value, binding: &Value, now: &str) -> Result<Value, ApiError> {
    let gr = GroupResource { resource: "pods/binding", ..pods.row.group_resource() };
    let name = meta::name(pod);
    let conflict = |why: String| ApiError::conflict(gr, name, &why);
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(pod) {
        return Err(conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        )));
    }
    if meta::is_deleting(pod) {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return Err(conflict(format!("pod {name} is already assigned to node {node:?}")));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    let mut new = pod.clone();
    new["spec"]["nodeName"] = binding["target"]["name"].clone();
    if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
        for (key, value) in annotations {
            new["metadata"]["annotations"][key] = value.clone();
        }
    }
    set_scheduled(&mut new, now);
    Ok(new)
}

fn set_scheduled(pod: &mut Value, now: &str) {
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(condition) => *condition = scheduled,
        None => conditions.push(scheduled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn a_pod_is_bound_once() {
        let catalog = Catalog::builtin();
        let pods = catalog.find("", "v1", "pods").expect("built in");
        let binding =
            json!({"metadata": {"name": "a", "annotations": {"k": "v"}}, "target": {"kind": "Node", "name": "n1"}});
        let pod = json!({"metadata": {"name": "a"}, "spec": {}});
        let new = bound(pods, &pod, &binding, "now").expect("binds");
        assert_eq!((&new["spec"]["nodeName"], &new["metadata"]["annotations"]["k"]), (&json!("n1"), &json!("v")));
        assert_eq!(new["status"]["conditions"][0]["type"], "PodScheduled");
        let error = bound(pods, &new, &binding, "now").expect_err("refused");
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (409, r#"Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n1""#)
        );
        assert!(check_target(&json!({"target": {"kind": "Pod", "name": "x"}})).is_err());
    }
}
