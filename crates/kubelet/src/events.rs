//! Events about pods and the node, in upstream's words.

use client::recorder::{Recorder, Type, reference};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

/// Without an API server there is nobody to tell but the log.
#[derive(Clone, Debug)]
pub struct Events(Option<Recorder>);

impl Events {
    pub fn new(recorder: Option<Recorder>) -> Events {
        Events(recorder)
    }

    pub fn node(&self, about: &ObjectReference, kind: Type, reason: &str, message: &str) {
        self.send(about, kind, reason, message);
    }

    pub fn pod(&self, pod: &Pod, kind: Type, reason: &str, message: &str) {
        self.send(&reference(pod), kind, reason, message);
    }

    /// About one container: `spec.containers{name}` tells which.
    pub fn container(&self, pod: &Pod, name: &str, kind: Type, reason: &str, message: &str) {
        let mut about = reference(pod);
        about.field_path = Some(field_path(pod, name));
        self.send(&about, kind, reason, message);
    }

    fn send(&self, about: &ObjectReference, kind: Type, reason: &str, message: &str) {
        tracing::debug!(pod = about.name.as_deref(), ?kind, reason, message, "event");
        if let Some(recorder) = &self.0 {
            recorder.event(about, kind, reason, message);
        }
    }
}

fn field_path(pod: &Pod, name: &str) -> String {
    let list = if podsync::pod::init_containers(pod).iter().any(|c| c.name == name) {
        "initContainers"
    } else if podsync::pod::containers(pod).iter().any(|c| c.name == name) {
        "containers"
    } else {
        "ephemeralContainers"
    };
    format!("spec.{list}{{{name}}}")
}
