//! What is left of the node's memory, disks and process ids.

use std::collections::BTreeMap;
use std::path::Path;

use cri::v1::ImageFsInfoRequest;
use podsync::eviction::{Level, Pressure, Signal};

use crate::context::Context;

pub async fn pressures(ctx: &Context) -> Vec<Pressure> {
    let mut levels = BTreeMap::from_iter(
        [(Signal::MemoryAvailable, memory()), (Signal::PidAvailable, pids())]
            .into_iter()
            .filter_map(|(signal, level)| Some((signal, level?))),
    );
    levels.extend(disk(&ctx.settings.root_dir, Signal::NodefsAvailable, Signal::NodefsInodesFree));
    if let Ok(info) = ctx.cri.image_fs_info(ImageFsInfoRequest {}).await
        && let Some(id) = info.image_filesystems.first().and_then(|fs| fs.fs_id.as_ref())
    {
        levels.extend(disk(Path::new(&id.mountpoint), Signal::ImagefsAvailable, Signal::ImagefsInodesFree));
    }
    ctx.settings.eviction.pressures(&levels)
}

fn memory() -> Option<Level> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    Some(Level { available: kib("MemAvailable:")? * 1024, capacity: kib("MemTotal:")? * 1024 })
}

fn pids() -> Option<Level> {
    let max: u64 = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let threads: u64 = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Level { available: max.saturating_sub(threads), capacity: max })
}

/// Nothing where the file system cannot be measured, or (of its inodes) where it has no fixed number of them.
fn disk(path: &Path, bytes: Signal, inodes: Signal) -> Vec<(Signal, Level)> {
    let Ok(stat) = nix::sys::statvfs::statvfs(path) else { return Vec::new() };
    let size = stat.fragment_size();
    let mut levels = vec![(bytes, Level { available: stat.blocks_available() * size, capacity: stat.blocks() * size })];
    if stat.files() > 0 {
        levels.push((inodes, Level { available: stat.files_free(), capacity: stat.files() }));
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_can_be_measured() {
        let sound = |level: Level| level.available > 0 && level.available <= level.capacity;
        assert!(memory().is_some_and(sound) && pids().is_some_and(sound));
        let disk = disk(Path::new("/"), Signal::NodefsAvailable, Signal::NodefsInodesFree);
        assert!(!disk.is_empty() && disk.iter().all(|(_, level)| sound(*level)), "{disk:?}");
        assert_eq!(super::disk(Path::new("/no/such/dir"), Signal::NodefsAvailable, Signal::NodefsInodesFree), []);
    }
}
