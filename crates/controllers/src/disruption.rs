//! PodDisruptionBudget: how many pods may be evicted right now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};

use crate::meta::{Meta, Round, after_seconds, scaled_value, time};
use crate::plan::{Op, Plan, normal, reference, warning};
use crate::{pods, selector};

/// An eviction that was granted and did not lead to a deletion within this time no longer counts.
const DELETION_TIMEOUT_SECONDS: i64 = 120;
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

pub struct Observed<'a> {
    pub budget: &'a PodDisruptionBudget,
    /// Pods of its namespace.
    pub pods: &'a [Arc<Pod>],
    /// The wanted size of what a pod's controller belongs to, with that owner's uid.
    pub scale: &'a dyn Fn(&OwnerReference) -> Option<(String, i32)>,
}

struct Numbers {
    expected: i32,
    desired: i32,
}

pub fn plan(observed: &Observed, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    let (budget, Some(spec)) = (observed.budget, &observed.budget.spec) else { return plan };
    let pods: Vec<&Arc<Pod>> = observed
        .pods
        .iter()
        .filter(|pod| !pods::is_terminal(pod))
        .filter(|pod| spec.selector.as_ref().is_some_and(|s| selector::matches(s, pod.meta().labels.as_ref())))
        .collect();
    if pods.is_empty() {
        plan.events.push(normal(&reference(budget), "NoPods", "No matching pods found"));
    }
    let disrupted = still_disrupted(budget, &pods, now, &mut plan);
    let status = match numbers(observed, &pods) {
        Ok(numbers) => {
            let healthy = pods
                .iter()
                .filter(|pod| !pod.deleting() && pods::is_ready(pod))
                .filter(|pod| !disrupted.contains_key(pod.name()))
                .count();
            let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
            build(budget, healthy, &numbers, disrupted, now)
        }
        Err(message) => {
            let message = format!("Failed to calculate the number of expected pods: {message}");
            plan.events.push(warning(&reference(budget), "CalculateExpectedPodCountFailed", message));
            // Unknown is treated as none allowed.
            build(budget, 0, &Numbers { expected: 0, desired: 0 }, disrupted, now)
        }
    };
    if budget.status.as_ref() != Some(&status) {
        plan.push(Op::update_status(&PodDisruptionBudget { status: Some(status), ..budget.clone() }));
    }
    plan
}

fn numbers(observed: &Observed, pods: &[&Arc<Pod>]) -> Result<Numbers, String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::{Int, String as Text};
    let spec = observed.budget.spec.clone().unwrap_or_default();
    if let Some(max) = &spec.max_unavailable {
        let expected = expected_scale(observed, pods)?;
        let desired = (expected - scaled_value(max, expected, Round::Up)).max(0);
        return Ok(Numbers { expected, desired });
    }
    match &spec.min_available {
        Some(Int(count)) => Ok(Numbers { expected: i32::try_from(pods.len()).unwrap_or(i32::MAX), desired: *count }),
        Some(text @ Text(_)) => {
            let expected = expected_scale(observed, pods)?;
            Ok(Numbers { expected, desired: scaled_value(text, expected, Round::Up) })
        }
        None => Ok(Numbers { expected: 0, desired: 0 }),
    }
}

/// The sum of the wanted sizes of everything the pods belong to; each owner counts once.
fn expected_scale(observed: &Observed, pods: &[&Arc<Pod>]) -> Result<i32, String> {
    let mut scales: HashMap<String, i32> = HashMap::new();
    for pod in pods {
        let Some(owner) = pod.controller() else {
            return Err(format!("found no controllers for pod \"{}\"", pod.name()));
        };
        let (uid, scale) =
            (observed.scale)(owner).ok_or_else(|| format!("found no controllers for pod \"{}\"", pod.name()))?;
        scales.insert(uid, scale);
    }
    Ok(scales.values().sum())
}

fn still_disrupted(
    budget: &PodDisruptionBudget,
    pods: &[&Arc<Pod>],
    now: jiff::Timestamp,
    plan: &mut Plan,
) -> BTreeMap<String, Time> {
    let recorded = budget.status.iter().flat_map(|status| status.disrupted_pods.iter().flatten());
    let mut kept = BTreeMap::new();
    for (name, since) in recorded {
        let waiting = pods.iter().any(|pod| pod.name() == name && !pod.deleting());
        let until = after_seconds(since.0, DELETION_TIMEOUT_SECONDS);
        if waiting && until > now {
            plan.requeue_at(until, now);
            kept.insert(name.clone(), since.clone());
        }
    }
    kept
}

fn build(
    budget: &PodDisruptionBudget,
    healthy: i32,
    numbers: &Numbers,
    disrupted: BTreeMap<String, Time>,
    now: jiff::Timestamp,
) -> PodDisruptionBudgetStatus {
    let allowed = if numbers.expected <= 0 { 0 } else { (healthy - numbers.desired).max(0) };
    PodDisruptionBudgetStatus {
        conditions: Some(conditions(budget, allowed, now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(numbers.desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(numbers.expected),
        observed_generation: budget.meta().generation,
    }
}

fn conditions(budget: &PodDisruptionBudget, allowed: i32, now: jiff::Timestamp) -> Vec<Condition> {
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let mut conditions = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let since = conditions
        .iter()
        .find(|old| old.type_ == DISRUPTION_ALLOWED && old.status == status)
        .map_or_else(|| time(now), |old| old.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != DISRUPTION_ALLOWED);
    conditions.push(Condition {
        type_: DISRUPTION_ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: budget.meta().generation,
        last_transition_time: since,
    });
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, status};
    use serde_json::{Value, json};

    fn check(spec: Value, ready: &[bool], expected: (i64, i64, i64)) {
        let mut full = json!({"selector": {"matchLabels": {"app": "web"}}});
        full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        let budget: PodDisruptionBudget = object(json!({"metadata": {"name": "b", "namespace": "ns"}, "spec": full}));
        let pods: Vec<Arc<Pod>> = ready
            .iter()
            .enumerate()
            .map(|(index, ready)| {
                crate::testing::pod(&format!("p{index}"), "o", json!({"app": "web"}), "Running", *ready)
            })
            .collect();
        let scale = |_: &OwnerReference| Some(("o".to_owned(), 4));
        let status = status(&plan(&Observed { budget: &budget, pods: &pods, scale: &scale }, at(0))).expect("written");
        let number = |field: &str| status[field].as_i64().expect("a number");
        assert_eq!((number("disruptionsAllowed"), number("desiredHealthy"), number("expectedPods")), expected);
    }

    #[test]
    fn budgets() {
        check(json!({"minAvailable": 2}), &[true, true, true], (1, 2, 3));
        check(json!({"minAvailable": 2}), &[true, true, false], (0, 2, 3));
        check(json!({"minAvailable": "50%"}), &[true, true, true, true], (2, 2, 4));
        check(json!({"maxUnavailable": 1}), &[true, true, true, true], (1, 3, 4));
        check(json!({"maxUnavailable": "30%"}), &[true, true, true, false], (1, 2, 4));
        check(json!({"maxUnavailable": 0}), &[true, true, true, true], (0, 4, 4));
    }
}
