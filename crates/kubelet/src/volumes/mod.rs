//! A pod's volumes on this node. Setting them up again is how they are brought up to date.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use podsync::pod as spec;

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
    paths: BTreeMap<String, (PathBuf, bool)>,
    pub refresh_at: Option<Timestamp>,
}

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

pub async fn setup(ctx: &Context, pod: &Pod, facts: &Facts) -> Result<Volumes> {
    let dir = ctx.settings.pod_dir(spec::uid(pod));
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let mut volumes = Volumes::default();
    for volume in list(pod) {
        let made = one(ctx, pod, volume, &dir.join("volumes"), facts).await;
        let (path, read_only, refresh_at) =
            made.map_err(|e| format!("MountVolume.SetUp failed for volume {:?} : {e}", volume.name))?;
        volumes.refresh_at = [volumes.refresh_at, refresh_at].into_iter().flatten().min();
        volumes.paths.insert(volume.name.clone(), (path, read_only));
    }
    Ok(volumes)
}

async fn one(
    ctx: &Context,
    pod: &Pod,
    volume: &Volume,
    dir: &Path,
    facts: &Facts,
) -> Result<(PathBuf, bool, Option<Timestamp>)> {
    let at = |plugin: &str| dir.join(format!("kubernetes.io~{plugin}")).join(&volume.name);
    let fs_group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    if let Some(source) = &volume.empty_dir {
        let path = at("empty-dir");
        plain::empty_dir(source, &path, fs_group)?;
        return Ok((path, false, None));
    }
    if let Some(source) = &volume.host_path {
        return Ok((plain::host_path(source)?, false, None));
    }
    let Some(projection) = projection::of(volume) else {
        return Err("volume type is not supported on this node".into());
    };
    let path = at(projection.plugin);
    let payload = projection::payload(ctx, pod, &volume.name, &projection, facts).await?;
    if projection.in_memory {
        plain::tmpfs(&path, None)?;
    }
    writer::write(&path, &payload.files, fs_group).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok((path, true, payload.refresh_at))
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
