//! `policy/v1` and `scheduling.k8s.io/v1`.

use super::{cluster, namespaced};
use crate::printers::policy;
use crate::table::{Resource, Sub};

const POLICY: (&str, &str) = ("policy", "v1");
const SCHEDULING: (&str, &str) = ("scheduling.k8s.io", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(POLICY, "PodDisruptionBudget", "poddisruptionbudgets")
            .short(&["pdb"])
            .subs(&[Sub::Status])
            .printed(policy::pod_disruption_budget()),
        cluster(SCHEDULING, "PriorityClass", "priorityclasses").short(&["pc"]).printed(policy::priority_class()),
    ]
}
