//! emptyDir and hostPath: directories rather than projections.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource};
use nix::mount::MsFlags;

use super::Result;

fn describe(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

pub fn is_mount(path: &Path) -> bool {
    super::mounts_below(path).iter().any(|mount| mount == path)
}

/// A directory in memory; already mounted is done.
pub fn tmpfs(path: &Path, size_bytes: Option<i64>) -> Result<()> {
    std::fs::create_dir_all(path).map_err(describe(path))?;
    if is_mount(path) {
        return Ok(());
    }
    let options = size_bytes.map(|size| format!("size={size}"));
    let mounted = nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), options.as_deref());
    mounted.map_err(|e| format!("cannot mount a tmpfs at {}: {e}", path.display()))
}

/// What a new emptyDir is made with.
pub struct Fresh {
    pub fs_group: Option<i64>,
    /// The size of one in memory.
    pub memory_bytes: Option<i64>,
}

/// Made once in the life of its pod: mode and owner are the containers' to change from then on. `meta` remembers that.
pub fn empty_dir(source: &EmptyDirVolumeSource, path: &Path, meta: &Path, fresh: &Fresh) -> Result<()> {
    let ready = meta.join("ready");
    let medium = source.medium.as_deref().unwrap_or_default();
    // What was in memory is gone with a restart of the node.
    let standing = || if medium == "Memory" { is_mount(path) } else { path.is_dir() };
    if ready.exists() && standing() {
        return Ok(());
    }
    match medium {
        "" => std::fs::create_dir_all(path).map_err(describe(path))?,
        "Memory" => tmpfs(path, fresh.memory_bytes)?,
        other => return Err(format!("unknown storage medium {other:?}")),
    }
    give(path, fresh.fs_group)?;
    std::fs::create_dir_all(meta).and_then(|()| std::fs::write(&ready, "")).map_err(describe(meta))
}

/// Everybody may write, and what they make belongs to the pod's group if it has one.
fn give(path: &Path, fs_group: Option<i64>) -> Result<()> {
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    if let Some(gid) = fs_group.and_then(|gid| u32::try_from(gid).ok()) {
        std::os::unix::fs::chown(path, None, Some(gid)).map_err(describe(path))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(describe(path))
}

pub fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf> {
    let path = PathBuf::from(&source.path);
    let failed = |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", source.path));
    let found = std::fs::metadata(&path).map(|m| m.file_type()).ok();
    match source.type_.as_deref().unwrap_or_default() {
        "" => {}
        "DirectoryOrCreate" if found.is_none() => {
            std::fs::create_dir_all(&path).map_err(describe(&path))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(describe(&path))?;
        }
        "FileOrCreate" if found.is_none() => {
            std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(describe(&path))?;
        }
        "DirectoryOrCreate" | "Directory" if !found.is_some_and(|t| t.is_dir()) => return failed("directory"),
        "FileOrCreate" | "File" if !found.is_some_and(|t| t.is_file()) => return failed("file"),
        "Socket" if !found.is_some_and(|t| t.is_socket()) => return failed("socket file"),
        "CharDevice" if !found.is_some_and(|t| t.is_char_device()) => return failed("character device"),
        "BlockDevice" if !found.is_some_and(|t| t.is_block_device()) => return failed("block device"),
        "DirectoryOrCreate" | "Directory" | "FileOrCreate" | "File" | "Socket" | "CharDevice" | "BlockDevice" => {}
        other => return Err(format!("{other:?} is an invalid volume type")),
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_dir_is_made_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, meta) = (dir.path().join("volume"), dir.path().join("meta"));
        let setup = || {
            let fresh = Fresh { fs_group: None, memory_bytes: None };
            empty_dir(&EmptyDirVolumeSource::default(), &path, &meta, &fresh).expect("set up");
            std::fs::metadata(&path).expect("there").permissions().mode() & 0o7777
        };
        assert_eq!(setup(), 0o777);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("its owner");
        assert_eq!(setup(), 0o700, "what a container made of it stays");
        std::fs::remove_dir(&path).expect("empty");
        assert_eq!(setup(), 0o777, "one that is gone is made again");
    }

    #[test]
    fn host_path_types() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("file"), "").expect("writable");
        let check = |name: &str, type_: &str, expected: std::result::Result<(), &str>| {
            let path = dir.path().join(name).to_string_lossy().into_owned();
            let result = host_path(&HostPathVolumeSource { path, type_: Some(type_.into()) });
            match expected {
                Ok(()) => assert!(result.expect("valid").exists(), "{name} {type_}"),
                Err(word) => assert!(result.expect_err("invalid").contains(word), "{name} {type_}"),
            }
        };
        check("file", "File", Ok(()));
        check("file", "Directory", Err("is not a directory"));
        check("missing", "File", Err("is not a file"));
        check("made/dir", "DirectoryOrCreate", Ok(()));
        check("made/file", "FileOrCreate", Ok(()));
        check("file", "Socket", Err("is not a socket file"));
    }
}
