//! `apps/v1`, `autoscaling/v2` and `autoscaling/v1`.

use super::namespaced;
use super::workload::count;
use crate::conversion;
use crate::printers::{autoscaling, workload};
use crate::table::{Resource, Sub};

const APPS: (&str, &str) = ("apps", "v1");
const AUTOSCALING: (&str, &str) = ("autoscaling", "v2");
const AUTOSCALING_V1: (&str, &str) = ("autoscaling", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(APPS, "ControllerRevision", "controllerrevisions").printed(workload::controller_revision()),
        namespaced(APPS, "DaemonSet", "daemonsets")
            .short(&["ds"])
            .in_all()
            .subs(&[Sub::Status])
            .printed(workload::daemon_set()),
        namespaced(APPS, "Deployment", "deployments")
            .short(&["deploy"])
            .in_all()
            .subs(&[Sub::Scale, Sub::Status])
            .printed(workload::deployment()),
        namespaced(APPS, "ReplicaSet", "replicasets")
            .short(&["rs"])
            .in_all()
            .subs(&[Sub::Scale, Sub::Status])
            .fields(&[("status.replicas", |o| count(o, "/status/replicas"))])
            .printed(workload::replica_set()),
        namespaced(APPS, "StatefulSet", "statefulsets")
            .short(&["sts"])
            .in_all()
            .subs(&[Sub::Scale, Sub::Status])
            .printed(workload::stateful_set()),
        namespaced(AUTOSCALING, "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .in_all()
            .subs(&[Sub::Status])
            .printed(autoscaling::horizontal_pod_autoscaler()),
        namespaced(AUTOSCALING_V1, "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .in_all()
            .subs(&[Sub::Status])
            .kept_as(conversion::autoscaling::AUTOSCALERS)
            .printed(autoscaling::first_version()),
    ]
}
