//! A member's disk: a small file system of its own on a loop device, which can be filled up and slowed down.
//!
//! Syncs are made slow by the kernel's throttle of block devices (blkio): the member's own writes wait, as they would
//! for a slow disk, while the disks of the others are as fast as before. Device-mapper's delay target and netem's like
//! for disks are not in every kernel; the throttle is.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use crate::host::run;

/// Room for some segments of the log, which are given 64 MiB each.
const BYTES: u64 = 448 << 20;

#[derive(Debug)]
pub struct Disk {
    pub point: PathBuf,
    image: PathBuf,
    device: String,
}

impl Disk {
    pub fn make(dir: &Path, name: &str) -> Result<Disk> {
        let (image, point) = (dir.join(format!("{name}.img")), dir.join(name));
        File::create(&image)?.set_len(BYTES)?;
        fs::create_dir(&point)?;
        let (i, p) = (image.display().to_string(), point.display().to_string());
        // No journal: processes crash here, the machine does not. Nothing reserved: full is full.
        run("mkfs.ext4", &["-q", "-m", "0", "-O", "^has_journal", &i])?;
        run("mount", &["-o", "loop", &i, &p])?;
        let device = run("findmnt", &["-n", "-o", "MAJ:MIN", &p])?.trim().to_owned();
        Ok(Disk { point, image, device })
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }

    /// Leaves not a block to anyone else.
    pub fn fill(&self) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(self.filler())?;
        let mut step = i64::try_from(BYTES).context("a small disk")?;
        while step >= 4096 {
            let end = i64::try_from(file.metadata()?.len()).context("a small disk")?;
            match fallocate(&file, FallocateFlags::empty(), end, step) {
                Ok(()) => {}
                Err(Errno::ENOSPC) => step /= 2,
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
        Ok(())
    }

    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("cannot free the disk")
    }

    pub fn free_bytes(&self) -> u64 {
        statvfs(&self.point).map_or(0, |s| s.blocks_available() * s.fragment_size())
    }

    /// Whoever writes waits, and cannot even be killed, until it thaws.
    pub fn freeze(&self) -> Result<()> {
        run("fsfreeze", &["--freeze", &self.point.display().to_string()]).map(drop)
    }

    /// An error if it is not frozen.
    pub fn thaw(&self) -> Result<()> {
        run("fsfreeze", &["--unfreeze", &self.point.display().to_string()]).map(drop)
    }

    /// Lets a cgroup's processes make so many writes a second; 0 is any number.
    pub fn throttle(&self, cgroup: &Path, writes_per_second: u32) -> Result<()> {
        let rule = format!("{} {writes_per_second}", self.device);
        fs::write(cgroup.join("blkio.throttle.write_iops_device"), rule).context("cannot throttle the disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.thaw();
        let _ = nix::mount::umount2(&self.point, nix::mount::MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.image);
        let _ = fs::remove_dir(&self.point);
    }
}
