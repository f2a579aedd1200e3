//! Security contexts: the container's own before the pod's.

use cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    SeLinuxOption, SecurityProfile, security_profile::ProfileType,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile};
use std::path::Path;

use crate::images::Present;

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn pod_context(pod: &Pod) -> PodSecurityContext {
    pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default()
}

pub fn namespaces(pod: &Pod) -> NamespaceOption {
    let spec = pod.spec.as_ref();
    let host = |flag: Option<bool>, otherwise: NamespaceMode| {
        let mode = if flag == Some(true) { NamespaceMode::Node } else { otherwise };
        mode as i32
    };
    let shared = spec.and_then(|s| s.share_process_namespace) == Some(true);
    let pid = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceOption {
        network: host(spec.and_then(|s| s.host_network), NamespaceMode::Pod),
        ipc: host(spec.and_then(|s| s.host_ipc), NamespaceMode::Pod),
        pid: host(spec.and_then(|s| s.host_pid), pid),
        ..NamespaceOption::default()
    }
}

/// A container made to look into another joins its process namespace, unless the pod's containers share one anyway.
fn container_namespaces(pod: &Pod, target_id: Option<&str>) -> NamespaceOption {
    let all = namespaces(pod);
    match target_id.filter(|_| all.pid() == NamespaceMode::Container) {
        Some(id) => NamespaceOption { pid: NamespaceMode::Target as i32, target_id: id.to_owned(), ..all },
        None => all,
    }
}

fn seccomp(profile: Option<&SeccompProfile>, root: &Path) -> SecurityProfile {
    let (kind, path) = match profile.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = profile.and_then(|p| p.localhost_profile.as_deref()).unwrap_or_default();
            (ProfileType::Localhost, root.join("seccomp").join(name).to_string_lossy().into_owned())
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    SecurityProfile { profile_type: kind as i32, localhost_ref: path }
}

fn selinux(options: Option<SELinuxOptions>) -> Option<SeLinuxOption> {
    let text = Option::unwrap_or_default;
    options.map(|o| SeLinuxOption {
        user: text(o.user),
        role: text(o.role),
        r#type: text(o.type_),
        level: text(o.level),
    })
}

fn id(value: Option<i64>) -> Option<Int64Value> {
    value.map(|value| Int64Value { value })
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let extra = context.supplemental_groups.iter().flatten().copied();
    context.fs_group.into_iter().chain(extra).collect()
}

pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|c| c.privileged) == Some(true)
}

pub fn sandbox(pod: &Pod, root: &Path) -> LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    let all = podsync::pod::containers(pod).iter().chain(podsync::pod::init_containers(pod));
    // The sandbox's own process never needs more than the runtime's default profile.
    let profile = context
        .seccomp_profile
        .clone()
        .unwrap_or_else(|| SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None });
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        privileged: all.clone().any(is_privileged),
        supplemental_groups: groups(&context),
        run_as_user: id(context.run_as_user),
        run_as_group: id(context.run_as_group.filter(|_| context.run_as_user.is_some())),
        seccomp: Some(seccomp(Some(&profile), root)),
        selinux_options: selinux(context.se_linux_options),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// `target_id` is the container that an ephemeral one was made for.
pub fn container(
    pod: &Pod,
    container: &Container,
    image: &Present,
    root: &Path,
    target_id: Option<&str>,
) -> LinuxContainerSecurityContext {
    let (own, all) = (container.security_context.clone().unwrap_or_default(), pod_context(pod));
    let user = own.run_as_user.or(all.run_as_user);
    let (uid, username) = match user.or(image.uid) {
        Some(uid) => (id(Some(uid)), String::new()),
        None => (None, image.username.clone()),
    };
    let profile = own.seccomp_profile.as_ref().or(all.seccomp_profile.as_ref());
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let caps = own.capabilities.clone().unwrap_or_default();
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: caps.add.unwrap_or_default(),
            drop_capabilities: caps.drop.unwrap_or_default(),
            ..Capability::default()
        }),
        privileged: own.privileged == Some(true),
        namespace_options: Some(container_namespaces(pod, target_id)),
        selinux_options: selinux(own.se_linux_options.or(all.se_linux_options.clone())),
        run_as_user: uid,
        run_as_username: username,
        run_as_group: id(own.run_as_group.or(all.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&all),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(profile, root)),
        ..LinuxContainerSecurityContext::default()
    }
}

/// runAsNonRoot, against the user the container would really get.
pub fn check_non_root(pod: &Pod, container: &Container, image: &Present) -> Result<(), String> {
    let (own, all) = (container.security_context.clone().unwrap_or_default(), pod_context(pod));
    if own.run_as_non_root.or(all.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let about = format!("(pod: {:?}, container: {})", podsync::pod::full_name(pod), container.name);
    match (own.run_as_user.or(all.run_as_user), image.uid, image.username.as_str()) {
        (Some(0), ..) => Err(format!("container's runAsUser breaks non-root policy {about}")),
        (Some(_), ..) => Ok(()),
        (None, Some(0), _) | (None, None, "") => {
            Err(format!("container has runAsNonRoot and image will run as root {about}"))
        }
        (None, Some(_), _) => Ok(()),
        (None, None, user) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {about}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_target_is_joined_where_processes_are_apart() {
        let check = |spec: Value, target: Option<&str>, expected: (NamespaceMode, &str)| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            let made = container_namespaces(&pod, target);
            assert_eq!((made.pid(), made.target_id.as_str()), expected, "{spec}");
        };
        check(json!({"containers": []}), None, (NamespaceMode::Container, ""));
        check(json!({"containers": []}), Some("id"), (NamespaceMode::Target, "id"));
        check(json!({"containers": [], "shareProcessNamespace": true}), Some("id"), (NamespaceMode::Pod, ""));
        check(json!({"containers": [], "hostPID": true}), Some("id"), (NamespaceMode::Node, ""));
    }

    #[test]
    fn non_root() {
        let check = |context: Value, uid: Option<i64>, username: &str, expected: Result<(), &str>| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"containers": [{"name": "c", "securityContext": context}]}}))
            .expect("a pod");
            let image = Present { image_ref: String::new(), uid, username: username.into() };
            let result = check_non_root(&pod, &podsync::pod::containers(&pod)[0], &image);
            match expected {
                Ok(()) => assert_eq!(result, Ok(())),
                Err(word) => assert!(result.as_ref().expect_err("refused").contains(word), "{result:?}"),
            }
        };
        check(json!({}), Some(0), "", Ok(()));
        check(
            json!({"runAsNonRoot": true}),
            Some(0),
            "",
            Err("image will run as root (pod: \"p_n(u)\", container: c)"),
        );
        check(json!({"runAsNonRoot": true}), Some(1000), "", Ok(()));
        check(json!({"runAsNonRoot": true}), None, "nginx", Err("non-numeric user (nginx)"));
        check(json!({"runAsNonRoot": true, "runAsUser": 0}), None, "", Err("breaks non-root policy"));
        check(json!({"runAsNonRoot": true, "runAsUser": 5}), None, "", Ok(()));
    }
}
