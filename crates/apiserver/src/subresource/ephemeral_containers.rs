//! `pods/ephemeralcontainers`: adds debugging containers to a running pod; what is there stays as it is.

use api::field::{Error, Path};
use api::{ApiError, ErrorList, meta};
use serde_json::{Value, json};

use super::status;
use crate::http::reply::Reply;
use crate::rest::{Call, read};

const FIELD: &str = "ephemeralContainers";

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    if call.request.info.verb == "get" {
        return read::get(call).await;
    }
    status::change(call, added).await
}

fn added(old: &Value, new: &Value) -> Result<Value, ApiError> {
    let path = Path::new("spec").child(FIELD);
    let list = |pod: &Value| pod["spec"][FIELD].as_array().cloned().unwrap_or_default();
    let (before, after) = (list(old), list(new));
    let mut errors = ErrorList::new();
    for container in &before {
        let name = container["name"].as_str().unwrap_or_default();
        match after.iter().find(|c| c["name"] == container["name"]) {
            None => errors
                .push(Error::forbidden(&path, &format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(same) if same != container => {
                errors.push(Error::forbidden(
                    &path,
                    &format!("existing ephemeral containers {name:?} may not be changed\n"),
                ));
            }
            Some(_) => {}
        }
    }
    validate(old, &after, &path, &mut errors);
    if !errors.is_empty() {
        return Err(ApiError::invalid("", "Pod", meta::name(old), &errors));
    }
    let mut out = old.clone();
    out["spec"][FIELD] = after.into();
    out["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
    Ok(out)
}

fn validate(pod: &Value, containers: &[Value], path: &Path, errors: &mut ErrorList) {
    let others = ["initContainers", "containers"].iter().flat_map(|l| pod["spec"][l].as_array().into_iter().flatten());
    let mut names: Vec<&Value> = others.map(|c| &c["name"]).collect();
    let targets: Vec<&Value> = pod["spec"]["containers"].as_array().into_iter().flatten().map(|c| &c["name"]).collect();
    for (at, container) in containers.iter().enumerate() {
        let path = path.index(at);
        let name = container["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        for complaint in api::names::dns_1123_label(name).iter().filter(|_| !name.is_empty()) {
            errors.push(Error::invalid(&path.child("name"), name, complaint));
        }
        if names.contains(&&container["name"]) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        names.push(&container["name"]);
        if container["image"].as_str().unwrap_or_default().is_empty() {
            errors.push(Error::required(&path.child("image"), ""));
        }
        for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources"] {
            let value = &container[field];
            if !value.is_null() && *value != json!({}) && *value != json!([]) {
                errors.push(Error::forbidden(&path.child(field), "cannot be set for an Ephemeral Container"));
            }
        }
        let target = &container["targetContainerName"];
        if target.as_str().is_some_and(|t| !t.is_empty()) && !targets.contains(&target) {
            errors.push(Error::not_found(&path.child("targetContainerName"), target.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_added_and_never_taken() {
        let pod = |ephemeral: Value| json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], FIELD: ephemeral}});
        let check = |old: Value, new: Value, expected: bool| {
            assert_eq!(added(&pod(old), &pod(new.clone())).is_ok(), expected, "{new}");
        };
        let debug = json!({"name": "debug", "image": "busybox"});
        check(json!([]), json!([debug]), true);
        check(json!([debug]), json!([]), false);
        check(json!([debug]), json!([{"name": "debug", "image": "other"}]), false);
        check(json!([]), json!([{"name": "a", "image": "busybox"}]), false);
        check(json!([]), json!([{"name": "x"}]), false);
        check(json!([]), json!([{"name": "x", "image": "i", "targetContainerName": "nope"}]), false);
    }
}
