//! The pods' cgroups with the cgroupfs driver: `kubepods`, one group per quality-of-service class
//! and one per pod, on the v1 hierarchies and on v2.

use std::path::{Path, PathBuf};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use podsync::qos::{self, Qos};
use podsync::resources::{self, Limits};

const ROOT: &str = "/sys/fs/cgroup";
/// The v1 controllers pods are accounted and limited by; those not mounted are passed over.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer"];

#[derive(Debug, Clone)]
enum Hierarchy {
    Unified(PathBuf),
    Split(Vec<(&'static str, PathBuf)>),
}

#[derive(Debug, Clone)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    /// `<cgroupRoot>/kubepods`.
    base: String,
    per_qos: bool,
}

impl Cgroups {
    pub fn new(cgroup_root: &str, per_qos: bool) -> Cgroups {
        let root = Path::new(ROOT);
        let hierarchy = if root.join("cgroup.controllers").exists() {
            Hierarchy::Unified(root.to_owned())
        } else {
            let mounted = CONTROLLERS.into_iter().map(|name| (name, root.join(name)));
            Hierarchy::Split(mounted.filter(|(_, path)| path.is_dir()).collect())
        };
        Cgroups { hierarchy, base: format!("{}/kubepods", cgroup_root.trim_end_matches('/')), per_qos }
    }

    /// The path a sandbox is told as its parent.
    pub fn parent(&self, pod: &Pod) -> String {
        if !self.per_qos {
            return self.base.trim_end_matches("/kubepods").to_owned();
        }
        let class = match qos::class(pod) {
            Qos::Guaranteed => "",
            Qos::Burstable => "/burstable",
            Qos::BestEffort => "/besteffort",
        };
        format!("{}{class}/pod{}", self.base, podsync::pod::uid(pod))
    }

    /// Makes the groups every pod's group lives in.
    pub fn setup(&self, allocatable_milli_cpu: i64, allocatable_memory: i64) -> anyhow::Result<()> {
        if !self.per_qos {
            return Ok(());
        }
        let top = Limits {
            cpu_shares: resources::cpu_shares(allocatable_milli_cpu),
            memory_bytes: allocatable_memory,
            ..Limits::default()
        };
        self.create(&self.base, top)?;
        let least = Limits { cpu_shares: resources::MIN_SHARES, ..Limits::default() };
        self.create(&format!("{}/burstable", self.base), least)?;
        self.create(&format!("{}/besteffort", self.base), least)
    }

    pub fn create_pod(&self, pod: &Pod) -> anyhow::Result<()> {
        if self.per_qos { self.create(&self.parent(pod), resources::pod_limits(pod)) } else { Ok(()) }
    }

    fn create(&self, path: &str, limits: Limits) -> anyhow::Result<()> {
        match &self.hierarchy {
            Hierarchy::Unified(root) => create_unified(root, path, limits),
            Hierarchy::Split(controllers) => controllers.iter().try_for_each(|(name, root)| {
                let dir = root.join(path.trim_start_matches('/'));
                create_split(name, root, &dir, limits).with_context(|| format!("cannot set up {}", dir.display()))
            }),
        }
    }

    /// Removes a pod's groups, by uid: its class may not be known any more.
    /// True when none is left.
    pub fn remove_pod(&self, uid: &str) -> bool {
        if !self.per_qos {
            return true;
        }
        let mut gone = true;
        for class in ["", "/burstable", "/besteffort"] {
            let path = format!("{}{class}/pod{uid}", self.base);
            for root in self.roots() {
                gone &= remove_tree(&root.join(path.trim_start_matches('/')));
            }
        }
        gone
    }

    /// Pods that have a group, by uid.
    pub fn pods(&self) -> Vec<String> {
        let classes = ["", "/burstable", "/besteffort"].map(|class| format!("{}{class}", self.base));
        let roots = self.roots();
        let dirs = roots.iter().flat_map(|root| classes.iter().map(|class| root.join(class.trim_start_matches('/'))));
        let entries = dirs.filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        entries.filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("pod")?.to_owned())).collect()
    }

    fn roots(&self) -> Vec<PathBuf> {
        match &self.hierarchy {
            Hierarchy::Unified(root) => vec![root.clone()],
            // The runtime makes its groups in every hierarchy, whether we set anything there or not.
            Hierarchy::Split(_) => {
                let mounted = std::fs::read_dir(ROOT).into_iter().flatten().flatten().map(|e| e.path());
                mounted.filter(|path| path.is_dir() && !path.is_symlink()).collect()
            }
        }
    }
}

fn create_unified(root: &Path, path: &str, limits: Limits) -> anyhow::Result<()> {
    let mut dir = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        // A controller must be handed down at every level before a child can use it.
        for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io"] {
            let _ = std::fs::write(dir.join("cgroup.subtree_control"), controller);
        }
        dir.push(part);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let set = |file: &str, value: String| {
        std::fs::write(dir.join(file), value).with_context(|| format!("cannot set {} of {}", file, dir.display()))
    };
    if limits.cpu_shares > 0 {
        set("cpu.weight", resources::cpu_weight(limits.cpu_shares).to_string())?;
    }
    if limits.cpu_quota > 0 {
        set("cpu.max", format!("{} {}", limits.cpu_quota, limits.cpu_period))?;
    }
    if limits.memory_bytes > 0 {
        set("memory.max", limits.memory_bytes.to_string())?;
    }
    Ok(())
}

fn create_split(controller: &str, root: &Path, dir: &Path, limits: Limits) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    match controller {
        "cpu" => {
            write_if(limits.cpu_shares, dir, "cpu.shares")?;
            write_if(limits.cpu_period, dir, "cpu.cfs_period_us")?;
            write_if(limits.cpu_quota, dir, "cpu.cfs_quota_us")
        }
        "memory" => write_if(limits.memory_bytes, dir, "memory.limit_in_bytes"),
        "cpuset" => inherit_cpuset(root, dir),
        _ => Ok(()),
    }
}

fn write_if(value: i64, dir: &Path, file: &str) -> anyhow::Result<()> {
    let path = dir.join(file);
    // A kernel without that knob (no CFS bandwidth, say) is not a reason to refuse the pod.
    if value > 0 && path.exists() {
        std::fs::write(&path, value.to_string()).with_context(|| format!("cannot set {}", path.display()))?;
    }
    Ok(())
}

/// An empty cpuset can hold no process: every level takes over its parent's.
fn inherit_cpuset(root: &Path, dir: &Path) -> anyhow::Result<()> {
    let mut chain: Vec<&Path> = dir.ancestors().take_while(|d| *d != root).collect();
    chain.reverse();
    for level in chain {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = std::fs::read_to_string(level.join(file)).unwrap_or_default();
            let Some(parent) = level.parent().filter(|_| own.trim().is_empty()) else { continue };
            if let Ok(value) = std::fs::read_to_string(parent.join(file)) {
                std::fs::write(level.join(file), value.trim())?;
            }
        }
    }
    Ok(())
}

/// Children first; a group that still holds a process stays, and is tried again later.
fn remove_tree(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return true };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path());
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(%error, dir = %dir.display(), "cgroup stays for now");
            false
        }
        _ => true,
    }
}
