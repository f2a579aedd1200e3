//! `namespaces/finalize`: changes spec.finalizers; taking the last one off a namespace that is being deleted ends it.

use api::ApiError;
use serde_json::Value;

use super::status;
use crate::http::reply::Reply;
use crate::rest::Call;

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    status::change(call, |old, new| Ok(finalized(old, new))).await
}

fn finalized(old: &Value, new: &Value) -> Value {
    let mut out = old.clone();
    match new["spec"]["finalizers"].as_array().filter(|f| !f.is_empty()) {
        Some(finalizers) => out["spec"]["finalizers"] = finalizers.clone().into(),
        None => {
            if let Some(spec) = out["spec"].as_object_mut() {
                spec.remove("finalizers");
            }
        }
    }
    out["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
    out
}
