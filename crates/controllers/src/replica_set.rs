//! ReplicaSet: keeps the wanted number of pods that match its selector.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::claim::claim;
use crate::meta::{Meta, nonzero, time};
use crate::plan::{Failure, Op, Plan};
use crate::replicas::{Counts, Set};
use crate::selector;

const REPLICA_FAILURE: &str = "ReplicaFailure";

pub struct Observed<'a> {
    pub set: &'a ReplicaSet,
    /// Pods this set owns and pods of its namespace nobody owns.
    pub pods: &'a [Arc<Pod>],
    /// Pods of all sets that share this set's controller, this one's included.
    pub related: &'a [Arc<Pod>],
    pub failure: Option<&'a Failure>,
}

pub fn plan(observed: &Observed, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    let (set, Some(spec)) = (observed.set, &observed.set.spec) else { return plan };
    let empty = Default::default();
    let replicas = Set {
        owner: set,
        replicas: spec.replicas.unwrap_or(1),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
        template: spec.template.as_ref().unwrap_or(&empty),
    };
    let claimed = claim(set, observed.pods, |labels| selector::matches(&spec.selector, labels));
    plan.ops.extend(claimed.ops);
    let counts = replicas.count(&claimed.mine, now);
    let status = status(set, &counts, observed.failure, now);
    if set.status.as_ref() != Some(&status) {
        plan.push(Op::update_status(&ReplicaSet { status: Some(status), ..set.clone() }));
    }
    if !set.deleting() {
        replicas.scale(&claimed.mine, observed.related, now, &mut plan);
        replicas.requeue_for_availability(&claimed.mine, now, &mut plan);
    }
    plan
}

fn status(set: &ReplicaSet, counts: &Counts, failure: Option<&Failure>, now: jiff::Timestamp) -> ReplicaSetStatus {
    let old = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    ReplicaSetStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: nonzero(counts.fully_labeled),
        ready_replicas: nonzero(counts.ready),
        available_replicas: nonzero(counts.available),
        terminating_replicas: Some(counts.terminating),
        observed_generation: set.meta().generation,
        conditions: conditions(old, failure, now),
    }
}

fn conditions(
    mut conditions: Vec<ReplicaSetCondition>,
    failure: Option<&Failure>,
    now: jiff::Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let known = conditions.iter().any(|condition| {
        condition.type_ == REPLICA_FAILURE && failure.is_some_and(|f| condition.reason.as_deref() == Some(f.reason))
    });
    if !known {
        conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
        conditions.extend(failure.map(|failure| ReplicaSetCondition {
            type_: REPLICA_FAILURE.into(),
            status: "True".into(),
            reason: Some(failure.reason.into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(time(now)),
        }));
    }
    (!conditions.is_empty()).then_some(conditions)
}
