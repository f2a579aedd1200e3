//! `scale`: autoscaling/v1 Scale over spec.replicas.

use api::field::{Error, Path};
use api::selector::Selector;
use api::table::Resource;
use api::{ApiError, ErrorList, meta};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::http::reply::Reply;
use crate::rest::options::WriteOptions;
use crate::rest::update::{self, Owns, Rules, Target};
use crate::rest::write::{self, Writer};
use crate::rest::{Call, decode, ownership, patch, present};

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    if info.verb == "get" {
        api.caches.fresh().await?;
        let found = write::current(api, kind, &info.namespace, &info.name).await?;
        let found = found.ok_or_else(|| ApiError::not_found(kind.row.group_resource(), &info.name))?;
        return reply(call, &found.value);
    }
    let row = scale_row(call)?;
    let target = |conditional: bool, owns: Owns| Target {
        kind,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        rules: Rules::Main,
        conditional,
        owns,
    };
    let updated = if info.verb == "update" {
        let options = WriteOptions::parse(&request.query, "UpdateOptions")?;
        let scale = decode::object(&api.catalog, request, &row, options.field_validation).await?;
        update::check_name(&scale, &info.name)?;
        let target = target(update::names_version(&scale), Owns::Changes);
        update::update(api, &Writer::of(request, options.dry_run), &target, &|old| apply(old, &scale)).await?
    } else {
        let patch = patch::read(call).await?;
        let options = patch.options(&request.query)?;
        let target = target(patch.names_version(), patch.owns());
        let writer = Writer::of(request, options.dry_run);
        update::update(api, &writer, &target, &|old| {
            if let Some(config) = patch.config() {
                let config = of_parent(call, &row, config)?;
                return ownership::applied(api, kind, &writer, "scale", Some(old), &config, options.force);
            }
            let scale = patch.checked(&api.catalog.schemas, request, &row, &to_scale(old), options.field_validation)?;
            update::check_name(&scale, &info.name)?;
            apply(old, &scale)
        })
        .await?
    };
    reply(call, &serde_json::from_slice(&updated.bytes).map_err(ApiError::internal)?)
}

/// The kind that the body speaks; it has no row of its own in the table.
fn scale_row(call: &Call<'_>) -> Result<Resource, ApiError> {
    let row = &call.kind.row;
    let (group, version, kind) = api::table::Sub::Scale.kind(row);
    Ok(Resource { group, version, kind, printer: None, selectable: Vec::new(), ..(**row).clone() })
}

fn reply(call: &Call<'_>, object: &Value) -> Result<Reply, ApiError> {
    let row = scale_row(call)?;
    Ok(Reply::json(StatusCode::OK, &present::shaped(&row, call.request, to_scale(object))?))
}

fn apply(old: &Value, scale: &Value) -> Result<Value, ApiError> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        let errors = ErrorList::from_iter([Error::invalid(&path, replicas, "must be greater than or equal to 0")]);
        return Err(ApiError::invalid("autoscaling", "Scale", meta::name(old), &errors));
    }
    let mut new = old.clone();
    new["spec"]["replicas"] = replicas.into();
    // A scale without a resourceVersion is unconditional.
    new["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    if let Some(uid) = scale["metadata"]["uid"].as_str().filter(|u| !u.is_empty()) {
        new["metadata"]["uid"] = uid.into();
    }
    Ok(new)
}

/// What a scale that is applied says of the object itself.
fn of_parent(call: &Call<'_>, row: &Resource, scale: &Value) -> Result<Value, ApiError> {
    let text = |field: &str| scale.get(field).and_then(Value::as_str).unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (&row.api_version(), &row.kind) {
        let (version, kind) = (text("apiVersion"), text("kind"));
        return Err(ApiError::bad_request(format!("invalid object type: {version}, Kind={kind}")));
    }
    let parent = &call.kind.row;
    let mut config = json!({
        "apiVersion": parent.api_version(), "kind": parent.kind, "metadata": {"name": call.request.info.name},
    });
    if let Some(replicas) = scale.pointer("/spec/replicas").filter(|r| !r.is_null()) {
        let replicas = replicas.as_i64().ok_or_else(|| ApiError::bad_request("spec.replicas must be a number"))?;
        apply(&config, scale)?;
        config["spec"]["replicas"] = replicas.into();
    }
    Ok(config)
}

fn to_scale(object: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    let mut spec = json!({});
    if replicas != 0 {
        spec["replicas"] = replicas.into();
    }
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    let selector = selector(&object["spec"]["selector"]);
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// A label selector, or the plain map of a ReplicationController, as text.
fn selector(value: &Value) -> String {
    if value.get("matchLabels").is_some() || value.get("matchExpressions").is_some() {
        return Selector::from_value(value).map(|s| s.to_string()).unwrap_or_default();
    }
    let pairs = value.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_and_back() {
        let object = json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2},
        });
        let scale = to_scale(&object);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert!(scale["metadata"].get("labels").is_none());
        let mut wanted = scale.clone();
        wanted["spec"]["replicas"] = 5.into();
        assert_eq!(apply(&object, &wanted).expect("valid")["spec"]["replicas"], 5);
        wanted["spec"]["replicas"] = (-1).into();
        assert_eq!(apply(&object, &wanted).expect_err("refused").code(), 422);
    }
}
