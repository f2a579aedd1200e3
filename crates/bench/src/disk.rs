//! What the disk under the data directories can do: half of every write's latency.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

const SYNCS: usize = 100;
const BYTES: usize = 4_096;

#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// The median time of an append of 4 KiB and fdatasync.
    pub sync: Duration,
    /// On which a sync costs nothing, and a comparison says little.
    pub in_memory: bool,
}

impl Disk {
    pub fn probe(dir: &Path) -> Result<Disk> {
        let path = dir.join("probe");
        let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let start = Instant::now();
            file.write_all(&[0x5a; BYTES])?;
            file.sync_data()?;
            times.push(start.elapsed());
        }
        std::fs::remove_file(&path)?;
        times.sort_unstable();
        Ok(Disk { sync: times[SYNCS / 2], in_memory: statfs(dir)?.filesystem_type() == TMPFS_MAGIC })
    }
}
