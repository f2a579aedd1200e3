//! `pods/eviction`: a delete that asks the pod's disruption budgets first.

use api::selector::Selector;
use api::{ApiError, meta};
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde_json::{Value, json};

use crate::cache::Entry;
use crate::http::reply::Reply;
use crate::rest::options::{Deletion, WriteOptions};
use crate::rest::update::{self, Owns, Rules, Target};
use crate::rest::write::{self, Writer};
use crate::rest::{Call, decode, delete};

/// A client is told to come back after this while the budget is still being worked out. One that is refused for good
/// reason is told no time: client-go would wait and ask again by itself, and `drain` could not say why it waits.
const RETRY_SECONDS: i32 = 10;
/// More than this many evictions in progress are too much for the disruption controller to follow.
const MAX_DISRUPTED: usize = 2000;

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let options = WriteOptions::parse(&request.query, "CreateOptions")?;
    let (group, version, name) = api::table::Sub::Eviction.kind(&kind.row);
    let row = api::table::Resource { group, version, kind: name, ..(*kind.row).clone() };
    let eviction = decode::object(&api.catalog, request, &row, options.field_validation).await?;
    let given = meta::name(&eviction);
    if !given.is_empty() && given != info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let given = &eviction["deleteOptions"];
    let bytes = if given.is_null() { Vec::new() } else { serde_json::to_vec(given).map_err(ApiError::internal)? };
    let mut deletion = Deletion::parse(&bytes, &request.query)?;
    deletion.dry_run |= options.dry_run;
    let writer = Writer::of(request, deletion.dry_run);
    let pod = write::live(api, kind, &info.namespace, &info.name).await?;
    let pod = pod.ok_or_else(|| ApiError::not_found(kind.row.group_resource(), &info.name))?;
    if !may_go(&pod.value) {
        let ready = is_ready(&pod.value);
        spend(call, &writer, &pod.value, ready).await?;
    }
    delete::one(api, kind, &writer, &info.namespace, &info.name, &deletion).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Reply::json(StatusCode::CREATED, &status))
}

/// Nobody misses a pod that is over, has not begun or is already going.
fn may_go(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::is_deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Takes the disruption from the one budget that covers the pod.
async fn spend(call: &Call<'_>, writer: &Writer<'_>, pod: &Value, ready: bool) -> Result<(), ApiError> {
    let Call { api, request, .. } = call;
    api.caches.own_writes(api.builtin("poddisruptionbudgets")).await?;
    let budgets = api.builtin("poddisruptionbudgets").in_namespace(&request.info.namespace);
    let labels = meta::labels(pod);
    let covers = |entry: &std::sync::Arc<Entry>| {
        let value = entry.value();
        let selector = Selector::from_value(&value["spec"]["selector"]);
        selector.is_ok_and(|s| s.matches(&labels)).then_some(value)
    };
    let found: Vec<Value> = budgets.iter().filter_map(covers).collect();
    let budget = match found.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    // An unready pod guards nothing once enough others are healthy, or always if the budget says so.
    let policy = budget["spec"]["unhealthyPodEvictionPolicy"].as_str().unwrap_or_default();
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let enough = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
    if !ready && (policy == "AlwaysAllow" || enough) {
        return Ok(());
    }
    let kind = api.kind("policy", "v1", "poddisruptionbudgets");
    let (namespace, name) = (meta::namespace(budget), meta::name(budget));
    let target = Target {
        kind,
        namespace,
        name,
        subresource: "status",
        rules: Rules::Trusted,
        conditional: false,
        owns: Owns::Settled,
    };
    let now = meta::format_time(request.now);
    update::update(api, writer, &target, &|old| spent(old, meta::name(pod), &now)).await.map(drop)
}

fn spent(budget: &Value, pod: &str, now: &str) -> Result<Value, ApiError> {
    let status = &budget["status"];
    if status["observedGeneration"].as_i64().unwrap_or(0) < meta::generation(budget) {
        return Err(too_many(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            budget,
            "is still being processed by the server.",
        )
        .with_retry_after(RETRY_SECONDS));
    }
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
    let disrupted = status["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    if disrupted > MAX_DISRUPTED {
        let gr = api::status::GroupResource { group: "policy", resource: "poddisruptionbudgets" };
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden(gr, meta::name(budget), why));
    }
    if allowed <= 0 {
        let count = |field: &str| status[field].as_i64().unwrap_or(0);
        let why =
            format!("needs {} healthy pods and has {} currently", count("desiredHealthy"), count("currentHealthy"));
        return Err(too_many("Cannot evict pod as it would violate the pod's disruption budget.", budget, &why));
    }
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = (allowed - 1).into();
    new["status"]["disruptedPods"][pod] = now.into();
    Ok(new)
}

fn too_many(message: &str, budget: &Value, why: &str) -> ApiError {
    let cause = StatusCause {
        reason: Some("DisruptionBudget".to_owned()),
        message: Some(format!("The disruption budget {} {why}", meta::name(budget))),
        field: None,
    };
    ApiError::new(429, "TooManyRequests", message).with_causes(vec![cause])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_and_then_empty() {
        let budget = json!({"metadata": {"name": "b", "generation": 1}, "status": {
            "observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3}});
        let once = spent(&budget, "p", "now").expect("allowed");
        assert_eq!(once["status"]["disruptionsAllowed"], 0);
        assert_eq!(once["status"]["disruptedPods"]["p"], "now");
        let error = spent(&once, "q", "now").expect_err("refused");
        assert_eq!(error.code(), 429);
        assert_eq!(error.status().details.as_ref().and_then(|d| d.retry_after_seconds), None);
        let cause = &error.status().details.as_ref().and_then(|d| d.causes.as_ref()).expect("a cause")[0];
        assert_eq!(cause.message.as_deref(), Some("The disruption budget b needs 2 healthy pods and has 3 currently"));
    }
}
