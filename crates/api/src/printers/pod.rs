//! Pods. The STATUS column tells why a pod is not running rather than its bare phase.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    NONE, age, age_column, boolean, column, condition, condition_is_true, list, number, printer, text, text_or, wide,
};
use crate::table::Printer;
use crate::{duration, meta};

pub fn pod() -> Printer {
    let columns = vec![
        column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
        column("Status", "string", "The aggregate status of the containers in this pod."),
        column(
            "Restarts",
            "string",
            "The number of times the containers in this pod have been restarted and when the last container in this \
             pod has restarted.",
        ),
        age_column(),
        wide("IP", "string", "podIP address allocated to the pod. Routable at least within the cluster."),
        wide("Node", "string", "NodeName indicates in which node this pod is scheduled."),
        wide("Nominated Node", "string", "The node on which the pod may be scheduled after a preemption."),
        wide("Readiness Gates", "string", "The readiness gates that are met, of those the pod asks for."),
    ];
    printer(columns, cells)
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, duration::since(last, now)),
        _ => summary.restarts.to_string(),
    };
    vec![
        meta::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        text_or(pod, "/status/podIPs/0/ip", NONE).into(),
        text_or(pod, "/spec/nodeName", NONE).into(),
        text_or(pod, "/status/nominatedNodeName", NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// What the containers of a pod come to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let sidecars = sidecars(pod);
        let mut summary = Self {
            ready: 0,
            total: list(pod, "/spec/containers").len() + sidecars.len(),
            reason: text_or(pod, "/status/reason", text(pod, "/status/phase")).to_owned(),
            restarts: 0,
            last_restart: None,
        };
        if condition(pod, "PodScheduled").is_some_and(|c| text(c, "/reason") == "SchedulingGated") {
            summary.reason = "SchedulingGated".to_owned();
        }
        let initializing = summary.add_init_containers(pod, &sidecars);
        if !initializing || condition_is_true(pod, "Initialized") {
            summary.add_containers(pod, &sidecars);
        }
        if meta::is_deleting(pod) {
            let terminal = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
            if text(pod, "/status/reason") == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !terminal {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Goes through the init containers up to the first that is not done; true if there is one.
    fn add_init_containers(&mut self, pod: &Value, sidecars: &HashSet<&str>) -> bool {
        for (done, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            self.add_restarts(status);
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|t| number(t, "/exitCode") == 0) {
                continue;
            }
            if sidecars.contains(text(status, "/name")) && boolean(status, "/started") {
                self.ready += usize::from(boolean(status, "/ready"));
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", exit_reason(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{done}/{}", list(pod, "/spec/initContainers").len()),
            };
            return true;
        }
        false
    }

    /// Restarts of init containers that ran to their end no longer count; the reason is that of the first container
    /// that has one.
    fn add_containers(&mut self, pod: &Value, sidecars: &HashSet<&str>) {
        (self.restarts, self.last_restart) = (0, None);
        let init = list(pod, "/status/initContainerStatuses").iter();
        init.filter(|status| sidecars.contains(text(status, "/name"))).for_each(|status| self.add_restarts(status));
        let mut running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            self.add_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = status.pointer("/state/terminated") {
                self.reason = exit_reason(terminated);
            } else if boolean(status, "/ready") && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition_is_true(pod, "Ready");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn add_restarts(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        let finished = meta::time(text(status, "/lastState/terminated/finishedAt"));
        self.last_restart = self.last_restart.max(finished);
    }
}

fn exit_reason(terminated: &Value) -> String {
    match (text(terminated, "/reason"), number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Init containers that keep running beside the others.
fn sidecars(pod: &Value) -> HashSet<&str> {
    let init = list(pod, "/spec/initContainers").iter();
    init.filter(|c| text(c, "/restartPolicy") == "Always").map(|c| text(c, "/name")).collect()
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let met = gates.iter().filter(|gate| condition_is_true(pod, text(gate, "/conditionType"))).count();
    format!("{met}/{}", gates.len())
}
