//! Carries out what was decided: bindings, conditions, evictions, events.
//!
//! At most [`MAX_WRITES`] pods are written for at a time; decisions wait when that is reached, so a slow API
//! server is never answered with a growing pile of requests.

use std::collections::HashMap;
use std::sync::Arc;

use client::Recorder;
use client::recorder::Type;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use scheduling::PodInfo;
use scheduling::schedule::Nomination;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::core::{Binding, Report};
use crate::rate::Rate;

/// How many pods are bound or reported on at once.
pub const MAX_WRITES: usize = 64;
/// What events.k8s.io allows in a note.
const MAX_EVENT_NOTE: usize = 1024;

pub struct Writer {
    client: kube::Client,
    recorders: HashMap<Box<str>, Recorder>,
    rate: Option<Rate>,
    pub slots: Arc<Semaphore>,
}

/// What came of a binding.
#[derive(Debug, PartialEq, Eq)]
pub enum Bound {
    Yes,
    /// The pod is gone or belongs to somebody else by now: nothing to retry.
    Gone,
    No,
}

impl Writer {
    pub fn new<'a>(client: kube::Client, schedulers: impl Iterator<Item = &'a str>, rate: Option<Rate>) -> Self {
        let recorders = schedulers.map(|name| (name.into(), Recorder::new(client.clone(), name, None))).collect();
        Writer { client, recorders, rate, slots: Arc::new(Semaphore::new(MAX_WRITES)) }
    }

    fn pods(&self, pod: &PodInfo) -> Api<core::Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }

    async fn turn(&self) {
        if let Some(rate) = &self.rate {
            rate.turn().await;
        }
    }

    fn event(&self, scheduler: &PodInfo, about: &PodInfo, kind: Type, reason: &str, note: String) {
        if let Some(recorder) = self.recorders.get(&scheduler.scheduler_name) {
            recorder.event(&reference(about), kind, reason, truncated(note));
        }
    }

    pub async fn bind(&self, binding: &Binding) -> Bound {
        let pod = &binding.pod;
        self.turn().await;
        let body = core::Binding {
            metadata: ObjectMeta {
                name: Some(pod.name.to_string()),
                namespace: Some(pod.namespace.to_string()),
                uid: Some(pod.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: core::ObjectReference {
                kind: Some("Node".into()),
                name: Some(binding.node.to_string()),
                ..core::ObjectReference::default()
            },
        };
        let result: kube::Result<Value> =
            self.pods(pod).create_subresource("binding", &pod.name, &PostParams::default(), &body).await;
        match result {
            Ok(_) => {
                let note = format!("Successfully assigned {} to {}", pod.key(), binding.node);
                self.event(pod, pod, Type::Normal, "Scheduled", note);
                tracing::info!(pod = pod.key(), node = %binding.node, "bound");
                Bound::Yes
            }
            Err(error) => self.binding_failed(binding, error).await,
        }
    }

    async fn binding_failed(&self, binding: &Binding, error: kube::Error) -> Bound {
        let pod = &binding.pod;
        tracing::warn!(pod = pod.key(), node = %binding.node, %error, "binding failed");
        match &error {
            kube::Error::Api(status) if status.code == 404 && about_pod(status, &pod.name) => return Bound::Gone,
            _ => {}
        }
        let message = format!("running Bind plugin \"DefaultBinder\": {}", words(&error));
        let report = Report {
            pod: pod.clone(),
            reason: "SchedulerError",
            message,
            nomination: Nomination::Keep,
            victims: Vec::new(),
            demoted: Vec::new(),
        };
        self.report(&report).await;
        Bound::No
    }

    /// Tells why a pod waits, evicts for it, and tells who lost a promised node.
    pub async fn report(&self, report: &Report) {
        let pod = &report.pod;
        self.event(pod, pod, Type::Warning, "FailedScheduling", report.message.clone());
        for victim in &report.victims {
            if let Nomination::Set(node) = &report.nomination {
                self.evict(pod, victim, node).await;
            }
        }
        for demoted in &report.demoted {
            self.patch_status(demoted, json!({"nominatedNodeName": null})).await;
        }
        if let Some(patch) = waiting_patch(report, Timestamp::now()) {
            self.patch_status(pod, patch).await;
        }
    }

    async fn evict(&self, preemptor: &PodInfo, victim: &PodInfo, node: &str) {
        if victim.terminating {
            return;
        }
        let message = format!("{}: preempting to accommodate a higher priority pod", preemptor.scheduler_name);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
            "lastTransitionTime": Time(Timestamp::now()),
        });
        self.patch_status(victim, json!({"conditions": [condition]})).await;
        self.turn().await;
        let preconditions = Preconditions { uid: Some(victim.uid.to_string()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.pods(victim).delete(&victim.name, &params).await {
            Ok(_) => {
                let note = format!("Preempted by pod {} on node {node}", preemptor.uid);
                self.event(preemptor, victim, Type::Normal, "Preempted", note);
                tracing::info!(pod = victim.key(), by = preemptor.key(), node, "preempted");
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => tracing::warn!(pod = victim.key(), %error, "cannot preempt"),
        }
    }

    /// The uid makes sure that a namesake created meanwhile is left alone.
    async fn patch_status(&self, pod: &PodInfo, status: Value) {
        self.turn().await;
        let patch = json!({"metadata": {"uid": &*pod.uid}, "status": status});
        let result = self.pods(pod).patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        match result {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => tracing::warn!(pod = pod.key(), %error, "cannot update the status"),
        }
    }
}

fn about_pod(status: &kube::core::Status, name: &str) -> bool {
    let details = status.details.as_ref();
    details.is_none_or(|d| (d.kind.is_empty() || d.kind == "pods") && (d.name.is_empty() || d.name == name))
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// What to change in the pod's status; `None` when it says so already.
fn waiting_patch(report: &Report, now: Timestamp) -> Option<Value> {
    let pod = &report.pod;
    let nomination = match &report.nomination {
        Nomination::Set(node) if **node != *pod.nominated_node => Some(json!(&**node)),
        Nomination::Clear if !pod.nominated_node.is_empty() => Some(Value::Null),
        _ => None,
    };
    let said = pod.waiting.as_ref().filter(|w| *w.reason == *report.reason && *w.message == *report.message);
    if said.is_some() && nomination.is_none() {
        return None;
    }
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": report.reason, "message": report.message,
        "lastProbeTime": null,
        "lastTransitionTime": Time(pod.waiting.as_ref().and_then(|w| w.since).unwrap_or(now)),
    });
    if let Some(generation) = pod.generation {
        condition["observedGeneration"] = json!(generation);
    }
    let mut status = json!({"conditions": [condition]});
    if let Some(node) = nomination {
        status["nominatedNodeName"] = node;
    }
    Some(status)
}

fn reference(pod: &PodInfo) -> core::ObjectReference {
    core::ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace.to_string()),
        name: Some(pod.name.to_string()),
        uid: Some(pod.uid.to_string()),
        ..core::ObjectReference::default()
    }
}

fn truncated(mut note: String) -> String {
    const MARK: &str = " ...";
    if note.len() > MAX_EVENT_NOTE {
        let end = (0..=MAX_EVENT_NOTE - MARK.len()).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0);
        note.truncate(end);
        note += MARK;
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduling::pod::Waiting;

    fn report(pod: PodInfo, nomination: Nomination) -> Report {
        let (pod, message) = (Arc::new(pod), "0/1 nodes are available: 1 Insufficient cpu.".into());
        Report { pod, reason: "Unschedulable", message, nomination, victims: vec![], demoted: vec![] }
    }

    fn said() -> Option<Box<Waiting>> {
        let message = "0/1 nodes are available: 1 Insufficient cpu.".into();
        Some(Box::new(Waiting { reason: "Unschedulable".into(), message, since: Some(Timestamp::UNIX_EPOCH) }))
    }

    #[test]
    fn the_same_is_not_said_twice() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let patch = waiting_patch(&report(PodInfo::default(), Nomination::Keep), now).expect("something new");
        assert_eq!(patch["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let known = || PodInfo { waiting: said(), ..PodInfo::default() };
        assert_eq!(waiting_patch(&report(known(), Nomination::Keep), now), None);
        assert_eq!(waiting_patch(&report(known(), Nomination::Clear), now), None);
        let patch = waiting_patch(&report(known(), Nomination::Set("n".into())), now).expect("a nomination");
        assert_eq!(patch["nominatedNodeName"], "n");
        // The condition stays false: when it became so does not change.
        assert_eq!(patch["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        let nominated = PodInfo { nominated_node: "n".into(), ..known() };
        let patch = waiting_patch(&report(nominated, Nomination::Clear), now).expect("a change");
        assert!(patch.as_object().is_some_and(|p| p.contains_key("nominatedNodeName")), "{patch}");
    }

    #[test]
    fn long_notes_are_cut() {
        let note = truncated("é".repeat(MAX_EVENT_NOTE));
        assert!(note.len() <= MAX_EVENT_NOTE && note.ends_with("é ..."), "{}", note.len());
        assert_eq!(truncated("short".into()), "short");
    }
}
