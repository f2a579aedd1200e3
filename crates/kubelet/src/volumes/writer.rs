//! Publishes a set of files atomically, as every reader of projected volumes expects:
//!
//! ```text
//! token   -> ..data/token          what the container opens
//! ..data  -> ..2026_01_02_03.0042  swapped by one rename
//! ..2026_01_02_03.0042/token       the files
//! ```
//! A reader sees all of the old set or all of the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// An owner other than root.
    pub uid: Option<u32>,
}

/// By relative path.
pub type Files = BTreeMap<String, File>;

/// True when something had to be written.
pub fn write(dir: &Path, files: &Files, fs_group: Option<i64>) -> io::Result<bool> {
    files.keys().try_for_each(|path| check_path(path))?;
    std::fs::create_dir_all(dir)?;
    let current = std::fs::read_link(dir.join(DATA)).ok();
    if current.as_ref().is_some_and(|name| is_same(&dir.join(name), files)) {
        return Ok(false);
    }
    let fresh = fresh_dir(dir)?;
    let gid = fs_group.and_then(|gid| u32::try_from(gid).ok());
    if current.is_none() {
        // Programs that look find what upstream makes; the mount is read-only all the same.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))?;
    }
    give(dir, gid)?;
    give(&dir.join(&fresh), gid)?;
    fill(&dir.join(&fresh), files, gid)?;
    let _ = std::fs::remove_file(dir.join(DATA_NEW));
    symlink(&fresh, dir.join(DATA_NEW))?;
    std::fs::rename(dir.join(DATA_NEW), dir.join(DATA))?;
    link_tops(dir, files)?;
    if let Some(old) = current {
        std::fs::remove_dir_all(dir.join(old))?;
    }
    Ok(true)
}

/// Whether a set of files was ever published here.
pub fn is_published(dir: &Path) -> bool {
    dir.join(DATA).is_dir()
}

/// Paths come from users: relative, inside, and clear of our own names.
fn check_path(path: &str) -> io::Result<()> {
    let plain = |c: Component| matches!(c, Component::Normal(_));
    if path.is_empty() || path.starts_with("..") || !Path::new(path).components().all(plain) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path: {path}")));
    }
    Ok(())
}

fn is_same(dir: &Path, files: &Files) -> bool {
    let wanted: BTreeSet<PathBuf> = files.keys().map(|path| dir.join(path)).collect();
    let same = |(path, file): (&String, &File)| {
        let path = dir.join(path);
        let mode = std::fs::metadata(&path).map(|m| m.permissions().mode() & 0o777);
        std::fs::read(&path).is_ok_and(|data| data == file.data) && mode.is_ok_and(|mode| mode & file.mode == file.mode)
    };
    files.iter().all(same) && walk(dir).is_subset(&wanted)
}

fn walk(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(walk(&entry.path()));
        } else {
            found.insert(entry.path());
        }
    }
    found
}

/// A name no earlier set has.
fn fresh_dir(dir: &Path) -> io::Result<String> {
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    for serial in 0..10_000u32 {
        let name = format!("{stamp}.{serial:04}");
        match std::fs::create_dir(dir.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                std::fs::set_permissions(dir.join(&name), std::fs::Permissions::from_mode(0o755))?;
                return Ok(name);
            }
        }
    }
    Err(io::Error::other("no free directory name"))
}

fn fill(dir: &Path, files: &Files, gid: Option<u32>) -> io::Result<()> {
    for (path, file) in files {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
            for below in parent.ancestors().take_while(|below| *below != dir) {
                give(below, gid)?;
            }
        }
        std::fs::write(&path, &file.data)?;
        if file.uid.is_some() || gid.is_some() {
            chown(&path, file.uid, gid)?;
        }
        // The group may read everything.
        let mode = if gid.is_some() { file.mode | 0o440 } else { file.mode };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A directory of the pod's group: what is made in it later is the group's, too.
fn give(dir: &Path, gid: Option<u32>) -> io::Result<()> {
    if gid.is_none() {
        return Ok(());
    }
    chown(dir, None, gid)?;
    let mode = std::fs::metadata(dir)?.permissions().mode();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode | 0o2550))
}

/// The first component of every path, as a link into `..data`.
fn link_tops(dir: &Path, files: &Files) -> io::Result<()> {
    let tops: BTreeSet<&str> = files.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    for top in &tops {
        match symlink(Path::new(DATA).join(top), dir.join(top)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(name.as_ref()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File { data: data.into(), mode: 0o644, uid: None };
        list.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<String> = std::fs::read_dir(dir)
            .expect("readable")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn publishes_updates_and_forgets() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let dir = temp.path().join("v");
        assert!(write(&dir, &files(&[("a", "1"), ("d/b", "2")]), None).expect("written"));
        assert_eq!(std::fs::read_to_string(dir.join("d/b")).expect("there"), "2");
        assert!(!write(&dir, &files(&[("a", "1"), ("d/b", "2")]), None).expect("unchanged"));
        assert!(write(&dir, &files(&[("a", "3"), ("c", "4")]), None).expect("written"));
        assert_eq!(std::fs::read_to_string(dir.join("a")).expect("there"), "3");
        let left = names(&dir);
        assert_eq!(left.len(), 4, "..data, one set, a and c: {left:?}");
        assert!(left.contains(&"c".into()) && !left.contains(&"d".into()));
    }

    #[test]
    fn modes_are_those_that_users_know() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let check = |fs_group: Option<i64>, expected: [u32; 4]| {
            let dir = temp.path().join(format!("{fs_group:?}"));
            let file = File { data: Vec::new(), mode: 0o400, uid: None };
            write(&dir, &[("d/f".to_owned(), file)].into(), fs_group).expect("written");
            let found = ["", "..data", "d", "d/f"]
                .map(|path| std::fs::metadata(dir.join(path)).expect("there").permissions().mode() & 0o7777);
            assert_eq!(found, expected, "{fs_group:?}");
        };
        check(None, [0o777, 0o755, 0o755, 0o400]);
        check(Some(0), [0o2777, 0o2755, 0o2755, 0o440]);
    }

    #[test]
    fn refuses_to_leave_the_volume() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        for path in ["../x", "/etc/passwd", "a/../../x", "..data", ""] {
            assert!(write(temp.path(), &files(&[(path, "x")]), None).is_err(), "{path:?}");
        }
    }
}
