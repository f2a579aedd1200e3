//! `status`, and `resize` of pods: the object itself, of which a write changes only its part.

use api::ApiError;
use http::StatusCode;
use serde_json::Value;

use crate::http::reply::Reply;
use crate::rest::options::WriteOptions;
use crate::rest::update::{self, Owns, Rules, Target};
use crate::rest::write::Writer;
use crate::rest::{Call, decode, patch, present, read};

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    match call.request.info.verb.as_str() {
        "get" => read::get(call).await,
        "update" => update::replace(call, true).await,
        _ => patch::patch(call, true).await,
    }
}

/// A resize may change the resources of containers and nothing else.
pub async fn resize(call: &Call<'_>) -> Result<Reply, ApiError> {
    if call.request.info.verb == "get" {
        return read::get(call).await;
    }
    change(call, |old, new| {
        let mut out = old.clone();
        for list in ["containers", "initContainers"] {
            let wanted = new["spec"][list].as_array().cloned().unwrap_or_default();
            for container in out["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(found) = wanted.iter().find(|w| w["name"] == container["name"]) {
                    for field in ["resources", "resizePolicy"] {
                        if let Some(value) = found.get(field) {
                            container[field] = value.clone();
                        }
                    }
                }
            }
        }
        out["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
        Ok(out)
    })
    .await
}

/// A PUT or PATCH whose result is folded into the old object by `fold(old, new)`.
pub async fn change(
    call: &Call<'_>,
    fold: impl Fn(&Value, &Value) -> Result<Value, ApiError> + Send + Sync,
) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let target = |conditional: bool, owns: Owns| Target {
        kind,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        rules: Rules::Trusted,
        conditional,
        owns,
    };
    let defaulted = |mut new: Value| -> Result<Value, ApiError> {
        kind.strategy.default(&mut new).map_err(|e| decode::misfit(&kind.row, &e))?;
        Ok(new)
    };
    let updated = if info.verb == "update" {
        let options = WriteOptions::parse(&request.query, "UpdateOptions")?;
        let put = decode::object(&api.catalog, request, &kind.row, options.field_validation).await?;
        update::check_name(&put, &info.name)?;
        let put = defaulted(put)?;
        let writer = Writer::of(request, options.dry_run);
        update::update(api, &writer, &target(update::names_version(&put), Owns::Changes), &|old| fold(old, &put))
            .await?
    } else {
        let patch = patch::read(call).await?;
        let options = patch.options(&request.query)?;
        let writer = Writer::of(request, options.dry_run);
        update::update(api, &writer, &target(patch.names_version(), patch.owns()), &|old| {
            let new = defaulted(patch::patched(call, &patch, old, &options)?)?;
            let mut folded = fold(old, &new)?;
            if patch.owns() == Owns::Settled {
                folded["metadata"]["managedFields"] = new["metadata"]["managedFields"].clone();
            }
            Ok(folded)
        })
        .await?
    };
    present::object(call, StatusCode::OK, updated.bytes)
}
