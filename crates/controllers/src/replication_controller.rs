//! ReplicationController: ReplicaSet's elder, with an equality selector that defaults to its template's labels.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Pod, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};

use crate::claim::claim;
use crate::meta::{Meta, nonzero, time};
use crate::plan::{Failure, Op, Plan};
use crate::replicas::{Counts, Set};
use crate::selector;

const REPLICA_FAILURE: &str = "ReplicaFailure";

pub struct Observed<'a> {
    pub controller: &'a ReplicationController,
    /// Pods it owns and pods of its namespace nobody owns.
    pub pods: &'a [Arc<Pod>],
    pub failure: Option<&'a Failure>,
}

pub fn plan(observed: &Observed, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    let (controller, Some(spec)) = (observed.controller, &observed.controller.spec) else { return plan };
    let (empty, none) = (Default::default(), Default::default());
    let set = Set {
        owner: controller,
        replicas: spec.replicas.unwrap_or(1),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
        template: spec.template.as_ref().unwrap_or(&empty),
    };
    let wanted = spec.selector.as_ref().unwrap_or(&none);
    let matches = |labels: Option<&selector::Labels>| !wanted.is_empty() && selector::contains(labels, wanted);
    let claimed = claim(controller, observed.pods, matches);
    plan.ops.extend(claimed.ops);
    let status = status(controller, &set.count(&claimed.mine, now), observed.failure, now);
    if controller.status.as_ref() != Some(&status) {
        plan.push(Op::update_status(&ReplicationController { status: Some(status), ..controller.clone() }).or_stale());
    }
    if !controller.deleting() {
        set.scale(&claimed.mine, &claimed.mine, now, &mut plan);
        set.requeue_for_availability(&claimed.mine, now, &mut plan);
    }
    plan
}

fn status(
    controller: &ReplicationController,
    counts: &Counts,
    failure: Option<&Failure>,
    now: jiff::Timestamp,
) -> ReplicationControllerStatus {
    let mut conditions = controller.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let known = conditions.iter().any(|condition| {
        condition.type_ == REPLICA_FAILURE && failure.is_some_and(|f| condition.reason.as_deref() == Some(f.reason))
    });
    if !known {
        conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
        conditions.extend(failure.map(|failure| ReplicationControllerCondition {
            type_: REPLICA_FAILURE.into(),
            status: "True".into(),
            reason: Some(failure.reason.into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(time(now)),
        }));
    }
    ReplicationControllerStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: nonzero(counts.fully_labeled),
        ready_replicas: nonzero(counts.ready),
        available_replicas: nonzero(counts.available),
        observed_generation: controller.meta().generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}
