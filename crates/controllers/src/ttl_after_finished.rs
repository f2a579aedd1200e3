//! Deletes Jobs a while after they finished.

use k8s_openapi::api::batch::v1::Job;

use crate::job::finished_condition;
use crate::meta::{Meta, after_seconds};
use crate::plan::{Op, Plan, Propagation, Verb};

pub fn plan(job: &Job, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let finished = finished_condition(job).and_then(|condition| condition.last_transition_time.as_ref());
    let (Some(ttl), Some(finished), false) = (ttl, finished, job.deleting()) else { return plan };
    let expires = after_seconds(finished.0, i64::from(ttl));
    if expires > now {
        plan.requeue_at(expires, now);
        return plan;
    }
    let mut op = Op::delete(job).propagation(Propagation::Foreground);
    // The TTL may have been raised since: only what was judged is deleted.
    if let Verb::Delete { resource_version, .. } = &mut op.verb {
        resource_version.clone_from(&job.meta().resource_version);
    }
    plan.push(op);
    plan
}
