//! One container, as the runtime is asked to create it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources, Mount,
    MountPropagation,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use podsync::{labels, pod as spec, resources};

use crate::container::downward::Facts;
use crate::container::{env, hosts, security, services};
use crate::context::Context;
use crate::images::Present;
use crate::volumes::{Volumes, sub_path};

const DEFAULT_TERMINATION_PATH: &str = "/dev/termination-log";

pub struct Wanted<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub restart_count: u32,
    pub image: &'a Present,
    pub volumes: &'a Volumes,
    pub pod_ips: &'a [String],
    /// The container that an ephemeral one was made for.
    pub target_id: Option<&'a str>,
}

/// Errors are `CreateContainerConfigError` messages.
pub async fn build(ctx: &Context, wanted: &Wanted<'_>) -> Result<ContainerConfig, String> {
    let Wanted { pod, container, .. } = *wanted;
    security::check_non_root(pod, container, wanted.image)?;
    let environment = environment(ctx, wanted).await?;
    let expand = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| environment.expand(text)).collect();
    let (command, args) = (expand(&container.command), expand(&container.args));
    let mounts = mounts(ctx, wanted, &environment)?;
    let limits = resources::container_limits(container);
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: wanted.restart_count }),
        image: Some(ImageSpec {
            image: wanted.image.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        labels: container_labels(pod, container),
        annotations: annotations(pod, container, wanted.restart_count),
        log_path: format!("{}/{}.log", container.name, wanted.restart_count),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                cpu_shares: limits.cpu_shares,
                cpu_quota: limits.cpu_quota,
                cpu_period: limits.cpu_period,
                memory_limit_in_bytes: limits.memory_bytes,
                oom_score_adj: resources::oom_score_adj(pod, container, ctx.machine.memory_bytes),
                ..LinuxContainerResources::default()
            }),
            security_context: Some(security::container(
                pod,
                container,
                wanted.image,
                &ctx.settings.root_dir,
                wanted.target_id,
            )),
        }),
        envs: environment.into_pairs().into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        devices: Vec::new(),
    })
}

async fn environment(ctx: &Context, wanted: &Wanted<'_>) -> Result<env::Environment, String> {
    let links = wanted.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = match &ctx.services {
        Some(informer) if informer.is_synced() => {
            let list = informer.list();
            services::variables(list.iter().map(AsRef::as_ref), spec::namespace(wanted.pod), links)
        }
        Some(_) if !spec::is_static(wanted.pod) => {
            return Err("services have not yet been read at least once, cannot construct envs".into());
        }
        _ => Default::default(),
    };
    let facts = facts(ctx, wanted.pod_ips);
    env::build(wanted.pod, wanted.container, services, &ctx.objects, &facts).await
}

pub fn facts(ctx: &Context, pod_ips: &[String]) -> Facts {
    Facts {
        node_name: ctx.settings.node_name.clone(),
        host_ips: ctx.host_ips(),
        pod_ips: pod_ips.to_vec(),
        allocatable: ctx.machine.allocatable.clone(),
    }
}

fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    HashMap::from([
        (labels::POD_NAME.into(), spec::name(pod).into()),
        (labels::POD_NAMESPACE.into(), spec::namespace(pod).into()),
        (labels::POD_UID.into(), spec::uid(pod).into()),
        (labels::CONTAINER_NAME.into(), container.name.clone()),
    ])
}

fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> HashMap<String, String> {
    let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    let path = container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_PATH);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let mut all = HashMap::from([
        (labels::CONTAINER_HASH.into(), spec::container_hash(container)),
        (labels::RESTART_COUNT.into(), restart_count.to_string()),
        (labels::TERMINATION_MESSAGE_PATH.into(), path.into()),
        (labels::TERMINATION_MESSAGE_POLICY.into(), policy.into()),
        (labels::POD_TERMINATION_GRACE_PERIOD.into(), grace.to_string()),
    ]);
    let mut note = |key: &str, value: Option<String>| value.map(|value| all.insert(key.to_owned(), value));
    note(labels::POD_DELETION_GRACE_PERIOD, pod.metadata.deletion_grace_period_seconds.map(|s| s.to_string()));
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    note(labels::PRE_STOP_HANDLER, pre_stop.and_then(|hook| serde_json::to_string(hook).ok()));
    note(labels::CONTAINER_PORTS, container.ports.as_ref().and_then(|p| serde_json::to_string(p).ok()));
    all
}

fn mounts(ctx: &Context, wanted: &Wanted<'_>, environment: &env::Environment) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for (index, mount) in wanted.container.volume_mounts.iter().flatten().enumerate() {
        let volume = wanted.volumes.path(&mount.name).ok_or_else(|| {
            format!("cannot find volume {:?} to mount into container {:?}", mount.name, wanted.container.name)
        })?;
        let sub = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => Some(path.clone()),
            (_, Some(template)) if !template.is_empty() => Some(environment.expand_fully(template)?),
            _ => None,
        };
        let host = match sub {
            Some(sub) => {
                let target = sub_path::Target {
                    pod_dir: ctx.settings.pod_dir(spec::uid(wanted.pod)),
                    volume: &mount.name,
                    container: &wanted.container.name,
                    index,
                };
                sub_path::bind(volume, &sub, &target).map_err(|e| {
                    format!(
                        "failed to prepare subPath for volumeMount {:?} of container {:?}: {e}",
                        mount.name, wanted.container.name
                    )
                })?
            }
            None => volume.to_owned(),
        };
        mounts.push(Mount {
            container_path: absolute(&mount.mount_path),
            host_path: host.to_string_lossy().into_owned(),
            readonly: mount.read_only == Some(true) || wanted.volumes.is_read_only(&mount.name),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => MountPropagation::PropagationBidirectional,
                _ => MountPropagation::PropagationPrivate,
            } as i32,
            ..Mount::default()
        });
    }
    mounts.extend(hosts_mount(ctx, wanted, &mounts)?);
    mounts.push(termination_mount(ctx, wanted)?);
    Ok(mounts)
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn bind(host: &Path, container: &str) -> Mount {
    let host_path = host.to_string_lossy().into_owned();
    Mount { container_path: container.to_owned(), host_path, ..Mount::default() }
}

fn hosts_mount(ctx: &Context, wanted: &Wanted<'_>, mounts: &[Mount]) -> Result<Option<Mount>, String> {
    if mounts.iter().any(|m| m.container_path == "/etc/hosts") {
        return Ok(None);
    }
    let path = ctx.settings.pod_dir(spec::uid(wanted.pod)).join("etc-hosts");
    let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let text = hosts::render(wanted.pod, wanted.pod_ips, &ctx.settings.config.cluster_domain, &host);
    std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(Some(bind(&path, "/etc/hosts")))
}

/// Where the runtime's mount of the termination message lives on the host: one file per instance.
pub fn termination_file(pod_dir: &Path, container: &str, restart_count: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(format!("{restart_count:08x}"))
}

fn termination_mount(ctx: &Context, wanted: &Wanted<'_>) -> Result<Mount, String> {
    use std::os::unix::fs::PermissionsExt;
    let pod_dir = ctx.settings.pod_dir(spec::uid(wanted.pod));
    let file = termination_file(&pod_dir, &wanted.container.name, wanted.restart_count);
    let parent = file.parent().unwrap_or(&pod_dir);
    let made = std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&file, ""))
        // Whatever user the container runs as may leave its last words.
        .and_then(|()| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)));
    made.map_err(|e| format!("cannot make {}: {e}", file.display()))?;
    let path = wanted.container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_PATH);
    Ok(bind(&file, path))
}
