//! `subPath`: part of a volume, mounted so that no symlink a container planted can lead outside.
//!
//! The path is resolved by the kernel beneath the volume (`openat2` with `RESOLVE_BENEATH`), and
//! what was opened is bind-mounted by its descriptor: nobody can swap it in between.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, mkdirat};

pub struct Target<'a> {
    pub pod_dir: PathBuf,
    pub volume: &'a str,
    pub container: &'a str,
    pub index: usize,
}

impl Target<'_> {
    fn path(&self) -> PathBuf {
        let dir = self.pod_dir.join("volume-subpaths").join(self.volume);
        dir.join(self.container).join(self.index.to_string())
    }
}

/// The host path to give the runtime.
pub fn bind(volume: &Path, sub: &str, target: &Target<'_>) -> io::Result<PathBuf> {
    let opened = open(volume, sub)?;
    let target = target.path();
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    prepare(&target, std::fs::metadata(&source)?.is_dir())?;
    nix::mount::mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(target)
}

/// A mount left by an earlier instance of the container is replaced: the file may be another now.
fn prepare(target: &Path, is_dir: bool) -> io::Result<()> {
    while super::plain::is_mount(target) {
        nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW)?;
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if is_dir { std::fs::create_dir_all(target) } else { File::create(target).map(drop) }
}

fn beneath(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve))
}

/// Opens `sub` beneath the volume, making missing directories on the way.
fn open(volume: &Path, sub: &str) -> io::Result<OwnedFd> {
    let relative = Path::new(sub);
    if !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "subPath must stay inside the volume"));
    }
    let root = OwnedFd::from(File::open(volume)?);
    match beneath(&root, relative) {
        Err(Errno::ENOENT) => {}
        other => return Ok(other?),
    }
    let mut done = PathBuf::from(".");
    for part in relative.components() {
        let parent = beneath(&root, &done)?;
        done.push(part);
        match mkdirat(&parent, part.as_os_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(beneath(&root, relative)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn stays_inside() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let volume = temp.path().join("v");
        std::fs::create_dir_all(volume.join("d")).expect("writable");
        symlink("/etc", volume.join("out")).expect("a link");
        symlink("d", volume.join("in")).expect("a link");
        symlink("../..", volume.join("up")).expect("a link");
        let check = |sub: &str, expected: bool| assert_eq!(open(&volume, sub).is_ok(), expected, "{sub}");
        check("d", true);
        check("in", true);
        check("new/deep", true);
        check("out", false);
        check("out/passwd", false);
        check("up/x", false);
        check("../x", false);
        check("/etc", false);
        assert!(volume.join("new/deep").is_dir());
    }
}
