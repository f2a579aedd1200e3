//! `subPath`: part of a volume, mounted so that no symlink a container planted can lead outside.
//!
//! The path is resolved by the kernel beneath the volume (`openat2` with `RESOLVE_BENEATH`), and
//! what was opened is bind-mounted by its descriptor: nobody can swap it in between.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::MsFlags;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};

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

/// Permissions, and the bit by which what is made in the pod's group stays there.
const KEPT: u32 = 0o2777;

/// Opens `sub` beneath the volume, making missing directories on the way: with the volume's mode, so that who may write
/// to it may write to them.
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
    let mode = Mode::from_bits_truncate(std::fs::metadata(volume)?.mode() & KEPT);
    let mut done = PathBuf::from(".");
    for part in relative.components() {
        let parent = beneath(&root, &done)?;
        done.push(part);
        match mkdirat(&parent, part.as_os_str(), mode) {
            // Whatever the process's mask left out. A link put there meanwhile is not followed out of the volume.
            Ok(()) => chmod(&beneath(&root, &done)?, mode)?,
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(beneath(&root, relative)?)
}

/// By its name in /proc: what was opened as a path alone has no mode of its own to change.
fn chmod(opened: &OwnedFd, mode: Mode) -> nix::Result<()> {
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    fchmodat(nix::fcntl::AT_FDCWD, path.as_str(), mode, FchmodatFlags::FollowSymlink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn new_directories_have_the_volumes_mode() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let check = |mode: u32| {
            let volume = temp.path().join(format!("{mode:o}"));
            std::fs::create_dir(&volume).expect("writable");
            std::fs::set_permissions(&volume, Permissions::from_mode(mode)).expect("its owner");
            open(&volume, "a/b").expect("made");
            for made in ["a", "a/b"] {
                let found = std::fs::metadata(volume.join(made)).expect("there").mode() & 0o7777;
                assert_eq!(found, mode & KEPT, "{made} in {mode:o}");
            }
        };
        check(0o777);
        check(0o2770);
        check(0o1777);
        check(0o755);
    }

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
