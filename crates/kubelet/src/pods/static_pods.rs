//! Static pods: manifests in a directory, followed by inotify.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use daemon::CancellationToken;
use daemon::watch_file::Watch;
use k8s_openapi::api::core::v1::Pod;
use podsync::labels;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::pods::Pods;

/// While the directory cannot be watched.
const RETRY: Duration = Duration::from_secs(5);

pub async fn run(ctx: Arc<Context>, pods: Arc<Pods>, dir: PathBuf, token: CancellationToken) {
    let follow = async {
        loop {
            let watch = std::fs::create_dir_all(&dir).and_then(|()| Watch::new([dir.as_path()]));
            match watch {
                Ok(mut watch) => loop {
                    pods.apply_static(&ctx, read(&dir, &ctx.settings.node_name));
                    if watch.changed().await.is_err() {
                        break;
                    }
                },
                Err(error) => tracing::warn!(%error, dir = %dir.display(), "cannot watch the static pods"),
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! { () = token.cancelled() => {}, () = follow => {} }
}

/// A file that cannot be read as a pod costs only itself.
pub fn read(dir: &Path, node: &str) -> Vec<Pod> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.is_file() && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')));
    paths.sort();
    let mut pods = Vec::new();
    for path in paths {
        match std::fs::read_to_string(&path).map_err(Into::into).and_then(|text| parse(&text, &path, node)) {
            Ok(pod) => pods.push(pod),
            Err(error) => tracing::warn!(error = format!("{error:#}"), file = %path.display(), "not a static pod"),
        }
    }
    pods
}

/// As upstream completes one: named after the node, an identity made of its contents, and
/// tolerant of whatever befalls the node.
fn parse(text: &str, path: &Path, node: &str) -> anyhow::Result<Pod> {
    let mut pod: Pod = daemon::config::yaml(text).context("cannot parse the manifest")?;
    let spec = pod.spec.as_mut().context("no spec")?;
    ensure!(!spec.containers.is_empty(), "no containers");
    spec.node_name = Some(node.to_owned());
    let all = k8s_openapi::api::core::v1::Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..k8s_openapi::api::core::v1::Toleration::default()
    };
    spec.tolerations.get_or_insert_default().push(all);
    let meta = &mut pod.metadata;
    let name = meta.name.as_deref().filter(|n| !n.is_empty()).context("no name")?;
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace.get_or_insert_with(|| "default".into());
    let hash = hex(&Sha256::digest(format!("{node}\n{}\n{text}", path.display())));
    let uid = meta.uid.clone().filter(|uid| !uid.is_empty()).unwrap_or_else(|| hash[..32].to_owned());
    let notes = meta.annotations.get_or_insert_default();
    notes.insert(labels::CONFIG_HASH.into(), hash[..32].to_owned());
    notes.insert(labels::CONFIG_SOURCE.into(), "file".into());
    notes.insert(labels::CONFIG_SEEN.into(), jiff::Timestamp::now().to_string());
    meta.uid = Some(uid);
    pod.status = None;
    Ok(pod)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests() {
        let good = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";
        let pod = parse(good, Path::new("/m/web.yaml"), "n1").expect("a pod");
        assert_eq!(pod.metadata.name.as_deref(), Some("web-n1"));
        assert!(podsync::pod::is_static(&pod));
        let again = parse(good, Path::new("/m/web.yaml"), "n1").expect("a pod");
        assert_eq!(pod.metadata.uid, again.metadata.uid, "the same file is the same pod after a restart");
        let changed = parse(&good.replace("image: i", "image: j"), Path::new("/m/web.yaml"), "n1").expect("a pod");
        assert_ne!(pod.metadata.uid, changed.metadata.uid);
        for bad in ["metadata: {name: web}", "spec: {containers: []}\nmetadata: {name: w}", "]"] {
            assert!(parse(bad, Path::new("/m/x"), "n1").is_err(), "{bad}");
        }
    }
}
