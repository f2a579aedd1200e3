//! Which cluster on this host has which index, also while it is stopped: one link per index, to the cluster's directory.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cluster::Cluster;

const DIR: &str = "/var/lib/coxswain-clusters";

#[derive(Debug)]
pub struct Reservations(PathBuf);

impl Default for Reservations {
    fn default() -> Self {
        Self(DIR.into())
    }
}

impl Reservations {
    fn link(&self, index: u8) -> PathBuf {
        self.0.join(index.to_string())
    }

    /// The directory of the cluster that has this index; a link to one that is no more counts for nothing.
    fn owner(&self, index: u8) -> Option<PathBuf> {
        let dir = fs::read_link(self.link(index)).ok()?;
        let cluster = Cluster::load(&dir).ok().flatten()?;
        (cluster.index == index).then_some(dir)
    }

    /// Takes the index for the cluster in `dir`; false when another one has it.
    pub fn take(&self, index: u8, dir: &Path) -> anyhow::Result<bool> {
        fs::create_dir_all(&self.0).with_context(|| format!("cannot create {}", self.0.display()))?;
        let link = self.link(index);
        loop {
            match symlink(dir, &link) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot create {}", link.display())),
            }
            match self.owner(index) {
                Some(owner) => return Ok(owner == dir),
                // Its data is gone, or it is this one's before its record was written.
                None if fs::read_link(&link).is_ok_and(|target| target == dir) => return Ok(true),
                None => fs::remove_file(&link).with_context(|| format!("cannot remove {}", link.display()))?,
            }
        }
    }

    /// A cluster that is there already, from before it was stopped.
    pub fn retake(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if self.take(cluster.index, &cluster.dir)? {
            return Ok(());
        }
        let other = self.owner(cluster.index).unwrap_or_default();
        bail!(
            "the cluster in {} has the addresses of the one in {}: `hack/down --wipe` one of them",
            cluster.dir.display(),
            other.display()
        )
    }

    pub fn release(&self, cluster: &Cluster) {
        let link = self.link(cluster.index);
        if fs::read_link(&link).is_ok_and(|target| target == cluster.dir) {
            let _ = fs::remove_file(&link);
        }
        // Only an empty one can be removed.
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Store;

    #[test]
    fn a_stopped_cluster_keeps_its_index() {
        let tmp = tempfile::tempdir().expect("a directory");
        let reservations = Reservations(tmp.path().join("clusters"));
        let cluster = |name: &str, index: u8| {
            let dir = tmp.path().join(name);
            fs::create_dir_all(&dir).expect("a directory");
            let cluster = Cluster {
                index,
                nodes: 1,
                store: Store::default(),
                ip_forward: "0".into(),
                dir: dir.canonicalize().expect("a path"),
            };
            cluster.save().expect("written");
            cluster
        };
        let (a, b) = (cluster("a", 0), cluster("b", 0));
        assert!(reservations.take(0, &a.dir).expect("taken"));
        assert!(reservations.take(0, &a.dir).expect("its own already"));
        assert!(!reservations.take(0, &b.dir).expect("looked at"));
        let refusal = reservations.retake(&b).expect_err("a has it").to_string();
        assert!(refusal.contains(&a.dir.display().to_string()), "{refusal}");
        fs::remove_dir_all(&a.dir).expect("wiped by hand");
        reservations.retake(&b).expect("nobody has it");
        reservations.release(&b);
        assert!(!tmp.path().join("clusters").exists());
    }
}
