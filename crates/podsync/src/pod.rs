//! Questions about a pod's spec.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`: how messages and events name a pod.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

pub fn containers(pod: &Pod) -> &[Container] {
    spec(pod).map_or(&[], |s| &s.containers)
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).and_then(|s| s.init_containers.as_deref()).unwrap_or_default()
}

/// Ephemeral containers, seen as ordinary ones.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let list = spec(pod).and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or_default();
    list.iter().map(ephemeral_as_container).collect()
}

fn ephemeral_as_container(e: &k8s_openapi::api::core::v1::EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// The container whose processes an ephemeral one is to see.
pub fn target<'a>(pod: &'a Pod, ephemeral: &str) -> Option<&'a str> {
    let list = spec(pod).and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or_default();
    let found = list.iter().find(|e| e.name == ephemeral);
    found.and_then(|e| e.target_container_name.as_deref()).filter(|name| !name.is_empty())
}

/// Every container of the pod by that name, of whatever kind.
pub fn container(pod: &Pod, name: &str) -> Option<Container> {
    let regular = init_containers(pod).iter().chain(containers(pod)).find(|c| c.name == name).cloned();
    regular.or_else(|| ephemeral_containers(pod).into_iter().find(|c| c.name == name))
}

/// A restartable init container: started in order, then kept running beside the pod.
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).and_then(|s| s.restart_policy.as_deref()) {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// An init container retries unless the pod never restarts anything.
pub fn init_restart_policy(pod: &Pod, init: &Container) -> RestartPolicy {
    match restart_policy(pod) {
        _ if is_sidecar(init) => RestartPolicy::Always,
        RestartPolicy::Never => RestartPolicy::Never,
        _ => RestartPolicy::OnFailure,
    }
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).and_then(|s| s.host_network).unwrap_or(false)
}

pub fn grace_period(pod: &Pod) -> i64 {
    let asked = pod.metadata.deletion_grace_period_seconds;
    asked.or_else(|| spec(pod).and_then(|s| s.termination_grace_period_seconds)).unwrap_or(30)
}

/// A pod read from a file on this node, not from the API.
pub fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|a| a.get(crate::labels::CONFIG_SOURCE));
    source.is_some_and(|source| source == "file")
}

pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(crate::labels::CONFIG_MIRROR))
}

/// FNV-1a over what makes a running container another one: its name and image.
pub fn container_hash(container: &Container) -> String {
    let text = serde_json::json!({"name": container.name, "image": container.image}).to_string();
    let hash = text.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}
