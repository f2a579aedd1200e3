//! What the host has to give.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::NodeSystemInfo;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use podsync::eviction::Signal;
use podsync::quantity;

use crate::config::Settings;
use crate::context::Machine;

type List = BTreeMap<String, Quantity>;

fn memory_bytes() -> anyhow::Result<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("no MemTotal in /proc/meminfo")?;
    let kib: i64 = line.trim().trim_end_matches(" kB").trim().parse().context("MemTotal is no number")?;
    Ok(kib * 1024)
}

fn disk_bytes(settings: &Settings) -> anyhow::Result<i64> {
    let stat = nix::sys::statvfs::statvfs(&settings.root_dir)
        .with_context(|| format!("cannot measure {}", settings.root_dir.display()))?;
    i64::try_from(stat.blocks() * stat.fragment_size()).context("a disk this large")
}

pub fn machine(settings: &Settings) -> anyhow::Result<Machine> {
    let cpus = std::thread::available_parallelism().context("cannot count the CPUs")?.get();
    let memory_bytes = memory_bytes()?;
    let capacity: List = [
        ("cpu", quantity::from_milli(i64::try_from(cpus).unwrap_or(i64::MAX) * 1000)),
        ("memory", quantity::from_bytes(memory_bytes)),
        ("ephemeral-storage", quantity::from_bytes(disk_bytes(settings)?)),
        ("pods", Quantity(settings.config.max_pods.to_string())),
        ("hugepages-1Gi", Quantity("0".into())),
        ("hugepages-2Mi", Quantity("0".into())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let enforced = enforced(&capacity, settings)?;
    let allocatable = allocatable(&enforced, &capacity, settings)?;
    let ips = if settings.node_ips.is_empty() { vec![default_ip()?] } else { settings.node_ips.clone() };
    Ok(Machine { ips, capacity, enforced, allocatable, memory_bytes })
}

/// Capacity less what is reserved for the system and for Kubernetes.
fn enforced(capacity: &List, settings: &Settings) -> anyhow::Result<List> {
    let reserved = |name: &str| -> i64 {
        [&settings.config.kube_reserved, &settings.config.system_reserved]
            .into_iter()
            .filter_map(|list| list.get(name))
            .map(|text| quantity::milli(&Quantity(text.clone())))
            .sum()
    };
    less(capacity, reserved, "kubeReserved and systemReserved")
}

/// Less what the eviction thresholds keep, too: pods that use all they may are not to bring the node under pressure.
fn allocatable(enforced: &List, capacity: &List, settings: &Settings) -> anyhow::Result<List> {
    let kept = |name: &str| -> i64 {
        let signal = match name {
            "memory" => Signal::MemoryAvailable,
            "ephemeral-storage" => Signal::NodefsAvailable,
            _ => return 0,
        };
        let whole = capacity.get(name).map_or(0, |total| quantity::value(total).unsigned_abs());
        i64::try_from(settings.eviction.kept(signal, whole)).unwrap_or(i64::MAX).saturating_mul(1000)
    };
    less(enforced, kept, "kubeReserved, systemReserved and evictionHard")
}

fn less(list: &List, milli: impl Fn(&str) -> i64, what: &str) -> anyhow::Result<List> {
    let mut left = List::new();
    for (name, total) in list {
        let taken = milli(name);
        let rest = quantity::milli(total).saturating_sub(taken);
        ensure!(rest >= 0, "{what}: more {name} than the node has");
        let value = match name.as_str() {
            _ if taken == 0 => total.clone(),
            "cpu" => quantity::from_milli(rest),
            _ => quantity::from_bytes(rest / 1000),
        };
        left.insert(name.clone(), value);
    }
    Ok(left)
}

/// The address the default route would leave from; connecting a datagram socket sends nothing.
fn default_ip() -> anyhow::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    Ok(routed.context("cannot find the node's address: set --node-ip")?.ip())
}

fn first_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn system_info(runtime_version: String) -> NodeSystemInfo {
    let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    let uuid = first_line("/sys/class/dmi/id/product_uuid");
    let machine_id = first_line("/etc/machine-id");
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime_version,
        kernel_version: first_line("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: daemon::VERSION.into(),
        operating_system: "linux".into(),
        os_image: pretty.to_owned(),
        system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
        machine_id,
        swap: None,
    }
}
