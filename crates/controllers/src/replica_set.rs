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
        plan.push(Op::update_status(&ReplicaSet { status: Some(status), ..set.clone() }).or_stale());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, said, status, writes};
    use serde_json::{Value, json};

    fn set(replicas: i32) -> ReplicaSet {
        object(json!({
            "metadata": {"name": "rs", "namespace": "ns", "uid": "u", "generation": 3},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}},
        }))
    }

    fn pod(name: &str, phase: &str, ready: bool) -> Arc<Pod> {
        crate::testing::pod(name, "u", json!({"a": "b"}), phase, ready)
    }

    fn edited(pod: &Arc<Pod>, edit: impl FnOnce(&mut Pod)) -> Arc<Pod> {
        let mut pod = (**pod).clone();
        edit(&mut pod);
        Arc::new(pod)
    }

    fn run(set: &ReplicaSet, pods: &[Arc<Pod>], failure: Option<&Failure>) -> Plan {
        plan(&Observed { set, pods, related: pods, failure }, at(1000))
    }

    fn check(replicas: i32, pods: &[Arc<Pod>], expected: &[&str]) {
        assert_eq!(writes(&run(&set(replicas), pods, None)), expected);
    }

    #[test]
    fn counts_up_and_down() {
        let good = pod("good", "Running", true);
        check(2, &[], &["create pods/rs-", "create pods/rs-"]);
        check(2, std::slice::from_ref(&good), &["create pods/rs-"]);
        check(1, std::slice::from_ref(&good), &[]);
        // Ended pods do not count, and are not deleted either.
        check(1, &[pod("ended", "Failed", false)], &["create pods/rs-"]);
        check(0, &[good], &["delete pods/good"]);
    }

    #[test]
    fn the_least_useful_go_first() {
        let good = pod("good", "Running", true);
        let unready = pod("unready", "Running", false);
        let pending = pod("pending", "Pending", false);
        let cheap = edited(&pod("cheap", "Running", true), |pod| {
            let cost = ("controller.kubernetes.io/pod-deletion-cost".to_owned(), "-1".to_owned());
            pod.metadata.annotations = Some([cost].into());
        });
        let homeless = edited(&pending, |pod| {
            pod.metadata.name = Some("homeless".into());
            pod.spec.get_or_insert_default().node_name = None;
        });
        let all = [good, cheap, unready, pending, homeless];
        let order = ["delete pods/homeless", "delete pods/pending", "delete pods/unready", "delete pods/cheap"];
        check(1, &all, &order);
    }

    #[test]
    fn crowded_nodes_lose_one_first() {
        let on = |name: &str, node: &str| {
            edited(&pod(name, "Running", true), |pod| {
                pod.spec.get_or_insert_default().node_name = Some(node.into());
            })
        };
        check(2, &[on("a", "n1"), on("b", "n2"), on("c", "n2")], &["delete pods/b"]);
    }

    #[test]
    fn adopts_and_releases() {
        let orphan = edited(&pod("orphan", "Running", true), |pod| pod.metadata.owner_references = None);
        check(1, &[orphan], &["patch pods/orphan"]);
        let stray = edited(&pod("stray", "Running", true), |pod| pod.metadata.labels = None);
        check(1, &[stray], &["patch pods/stray", "create pods/rs-"]);
        let other = crate::testing::pod("other", "somebody", json!({"a": "b"}), "Running", true);
        check(0, &[other], &[]);
    }

    #[test]
    fn status_and_failure() {
        let failure = Failure { reason: "FailedCreate", message: "quota".into() };
        let plan = run(&set(2), &[pod("a", "Running", true)], Some(&failure));
        let status: Value = status(&plan).expect("written");
        assert_eq!(status["replicas"], 1);
        assert_eq!((&status["readyReplicas"], &status["availableReplicas"]), (&json!(1), &json!(1)));
        assert_eq!((&status["observedGeneration"], &status["terminatingReplicas"]), (&json!(3), &json!(0)));
        assert_eq!(status["conditions"][0]["reason"], "FailedCreate");
        assert_eq!(said(&plan), ["SuccessfulCreate: Created pod: {name}"]);
    }

    #[test]
    fn waits_for_availability() {
        let mut set = set(1);
        set.spec.get_or_insert_default().min_ready_seconds = Some(1010);
        let plan = run(&set, &[pod("a", "Running", true)], None);
        assert_eq!(plan.requeue_after.map(|after| after.as_secs()), Some(10));
        assert!(status(&plan).expect("written")["availableReplicas"].is_null());
    }
}
