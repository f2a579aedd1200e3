//! Clears away what belongs to no pod: after a crash, or pods deleted while the kubelet was down.
//!
//! Nothing is touched before every source has said which pods there are.

use std::collections::BTreeSet;

use cri::v1::{ContainerFilter, ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter, StopPodSandboxRequest};
use podsync::labels;

use crate::context::Context;
use crate::pods::Pods;
use crate::pods::worker::{remove_container, remove_sandbox};
use crate::volumes;

/// Nobody waits for what the container still has to say.
const ORPHAN_GRACE_SECONDS: i64 = 1;

pub async fn sweep(ctx: &Context, pods: &Pods, running: impl Iterator<Item = &String>) {
    if !pods.sources_are_ready() {
        return;
    }
    let known: BTreeSet<String> = pods.all().iter().map(|entry| entry.uid.clone()).collect();
    let orphans: BTreeSet<&String> = running.filter(|uid| !known.contains(*uid)).collect();
    futures::future::join_all(orphans.iter().map(|uid| async move {
        if let Err(error) = remove_runtime(ctx, uid).await {
            tracing::warn!(%error, pod = uid, "cannot remove an orphaned pod");
        }
    }))
    .await;
    let gone = |uid: &str| !known.contains(uid) && !orphans.iter().any(|o| o.as_str() == uid);
    for entry in std::fs::read_dir(ctx.settings.pods_dir()).into_iter().flatten().flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if gone(&uid)
            && let Err(error) = volumes::remove_pod_dir(&entry.path())
        {
            tracing::warn!(%error, pod = uid, "cannot remove an orphaned pod's volumes");
        }
    }
    ctx.cgroups.pods().iter().filter(|uid| gone(uid)).for_each(|uid| {
        ctx.cgroups.remove_pod(uid);
    });
    for entry in std::fs::read_dir(&ctx.settings.config.pod_logs_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.rsplit('_').next().is_some_and(gone) && name.matches('_').count() == 2 {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let all = pods.all();
    ctx.objects.retain(|reference| all.iter().any(|entry| references(&entry.desired().pod).contains(reference)));
}

/// Everything a pod may read: its volumes, environment and pull secrets.
pub fn references(pod: &k8s_openapi::api::core::v1::Pod) -> Vec<crate::objects::Reference> {
    use crate::objects::Kind::{ConfigMap, Secret};
    use client::Key;
    let namespace = podsync::pod::namespace(pod);
    let mut all = volumes::references(pod);
    let mut add = |kind, name: &str| all.push((kind, Key::new(namespace, name)));
    for container in podsync::pod::containers(pod).iter().chain(podsync::pod::init_containers(pod)) {
        for source in container.env_from.iter().flatten() {
            source.config_map_ref.iter().for_each(|s| add(ConfigMap, &s.name));
            source.secret_ref.iter().for_each(|s| add(Secret, &s.name));
        }
        for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            source.config_map_key_ref.iter().for_each(|s| add(ConfigMap, &s.name));
            source.secret_key_ref.iter().for_each(|s| add(Secret, &s.name));
        }
    }
    let pulls = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_deref()).unwrap_or_default();
    pulls.iter().for_each(|s| add(Secret, &s.name));
    all
}

async fn remove_runtime(ctx: &Context, uid: &str) -> cri::Result<()> {
    let selector = std::collections::HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let filter = ContainerFilter { label_selector: selector.clone(), ..ContainerFilter::default() };
    let containers = ctx.cri.list_containers(ListContainersRequest { filter: Some(filter) }).await?.containers;
    for container in &containers {
        ctx.cri.stop_container(&container.id, ORPHAN_GRACE_SECONDS).await?;
        remove_container(ctx, &container.id).await;
    }
    let filter = PodSandboxFilter { label_selector: selector, ..PodSandboxFilter::default() };
    for sandbox in ctx.cri.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await?.items {
        ctx.cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() }).await?;
        remove_sandbox(ctx, &sandbox.id).await;
    }
    Ok(())
}
