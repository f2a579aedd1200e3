//! A pod's volumes on this node. Setting them up again is how they are brought up to date.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use podsync::pod as spec;
use podsync::resources::memory_volume_bytes;

use crate::container::downward::Facts;
use crate::context::Context;
use crate::objects::{Kind, Reference};

pub mod plain;
pub mod projection;
pub mod sub_path;
pub mod token;
pub mod writer;

/// Where each volume of a pod is, and when the next one goes stale.
#[derive(Debug, Clone, Default)]
pub struct Volumes {
    paths: BTreeMap<String, Place>,
    pub refresh_at: Option<Timestamp>,
    /// `FailedMount` messages about those that could not be brought up to date.
    pub failures: Vec<String>,
}

/// A path on the host, and whether it can never be written to.
type Place = (PathBuf, bool);

impl Volumes {
    pub fn path(&self, name: &str) -> Option<&Path> {
        self.paths.get(name).map(|(path, _)| path.as_path())
    }

    /// Volumes made of API objects can never be written to.
    pub fn is_read_only(&self, name: &str) -> bool {
        self.paths.get(name).is_some_and(|(_, read_only)| *read_only)
    }
}

/// A `FailedMount` message.
pub type Result<T> = std::result::Result<T, String>;

fn list(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default()
}

/// Sets up what is new and brings the rest up to date. A volume that was set up before stays as it is when it cannot be
/// brought up to date: only one that never was holds the pod up. `earlier` is what the last call answered.
pub async fn setup(ctx: &Context, pod: &Pod, facts: &Facts, earlier: Option<&Volumes>) -> Result<Volumes> {
    let dir = ctx.settings.pod_dir(spec::uid(pod));
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let mut volumes = Volumes::default();
    for volume in list(pod) {
        let made = one(ctx, pod, volume, &dir, facts).await;
        let made = made.map_err(|e| format!("MountVolume.SetUp failed for volume {:?} : {e}", volume.name));
        let (place, refresh_at) = match (made, standing(volume, &dir, earlier)) {
            (Ok(made), _) => made,
            (Err(message), Some(place)) => {
                volumes.failures.push(message);
                (place, None)
            }
            (Err(message), None) => return Err(message),
        };
        volumes.refresh_at = [volumes.refresh_at, refresh_at].into_iter().flatten().min();
        volumes.paths.insert(volume.name.clone(), place);
    }
    Ok(volumes)
}

fn place(pod_dir: &Path, plugin: &str, volume: &Volume) -> PathBuf {
    pod_dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name)
}

/// Where a volume is that was set up before. Files tell by themselves, even after a restart of the kubelet.
fn standing(volume: &Volume, pod_dir: &Path, earlier: Option<&Volumes>) -> Option<Place> {
    match projection::of(volume) {
        Some(projection) => {
            let path = place(pod_dir, projection.plugin, volume);
            writer::is_published(&path).then_some((path, true))
        }
        None => earlier?.paths.get(&volume.name).cloned(),
    }
}

async fn one(
    ctx: &Context,
    pod: &Pod,
    volume: &Volume,
    dir: &Path,
    facts: &Facts,
) -> Result<(Place, Option<Timestamp>)> {
    let fs_group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    if let Some(source) = &volume.empty_dir {
        let path = place(dir, "empty-dir", volume);
        let meta = dir.join("plugins/kubernetes.io~empty-dir").join(&volume.name);
        let memory_bytes = memory_volume_bytes(pod, source.size_limit.as_ref(), &ctx.machine.allocatable);
        plain::empty_dir(source, &path, &meta, &plain::Fresh { fs_group, memory_bytes })?;
        return Ok(((path, false), None));
    }
    if let Some(source) = &volume.host_path {
        return Ok(((plain::host_path(source)?, false), None));
    }
    let Some(projection) = projection::of(volume) else {
        return Err("volume type is not supported on this node".into());
    };
    let path = place(dir, projection.plugin, volume);
    let payload = projection::payload(ctx, pod, &volume.name, &projection, facts).await?;
    if projection.in_memory {
        plain::tmpfs(&path, None)?;
    }
    writer::write(&path, &payload.files, fs_group).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(((path, true), payload.refresh_at))
}

/// The API objects whose change makes this pod's volumes stale.
pub fn references(pod: &Pod) -> Vec<Reference> {
    let namespace = spec::namespace(pod);
    let mut all = Vec::new();
    for volume in list(pod) {
        let Some(projection) = projection::of(volume) else { continue };
        for source in &projection.sources {
            let config_map = source.config_map.as_ref().map(|s| (Kind::ConfigMap, Key::new(namespace, &s.name)));
            let secret = source.secret.as_ref().map(|s| (Kind::Secret, Key::new(namespace, &s.name)));
            all.extend(config_map.into_iter().chain(secret));
        }
    }
    all
}

/// Whether a change of the pod itself makes its volumes stale: files of the downward API follow what can change.
pub fn follow(old: &Pod, new: &Pod) -> bool {
    let (was, is) = (&old.metadata, &new.metadata);
    let changed = was.labels != is.labels || was.annotations != is.annotations;
    changed
        && list(new)
            .iter()
            .filter_map(projection::of)
            .any(|projection| projection.sources.iter().any(|source| source.downward_api.is_some()))
}

/// Unmounts and removes a pod's directory. What is mounted below is unmounted first, and if that
/// fails nothing is deleted: another file system could be behind it.
pub fn remove_pod_dir(dir: &Path) -> std::io::Result<()> {
    for mount in mounts_below(dir) {
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW)?;
    }
    if !mounts_below(dir).is_empty() {
        return Err(std::io::Error::other("something is still mounted there"));
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Innermost first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p)));
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    below.reverse();
    below
}

/// mountinfo writes blanks and backslashes as `\040`.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| text.get(at + 1..at + 4)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_set_up_stands() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let volume = |source: serde_json::Value| -> Volume { serde_json::from_value(source).expect("a volume") };
        let files = volume(json!({"name": "files", "configMap": {"name": "c"}}));
        assert_eq!(standing(&files, dir.path(), None), None, "never set up");
        let path = place(dir.path(), "configmap", &files);
        std::fs::create_dir_all(&path).expect("writable");
        assert_eq!(standing(&files, dir.path(), None), None, "a directory, but nothing in it");
        writer::write(&path, &writer::Files::new(), None).expect("written");
        assert_eq!(standing(&files, dir.path(), None), Some((path, true)), "without a memory of it");

        let host = volume(json!({"name": "host", "hostPath": {"path": "/srv", "type": "Directory"}}));
        assert_eq!(standing(&host, dir.path(), Some(&Volumes::default())), None);
        let known = Volumes { paths: [("host".to_owned(), ("/srv".into(), false))].into(), ..Volumes::default() };
        assert_eq!(standing(&host, dir.path(), Some(&known)), Some(("/srv".into(), false)));
    }
}
