//! `hack/up --bench`: from built binaries to the first user pod Running, and what every daemon holds in memory.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cluster::Cluster;
use crate::up::{kubectl, resident_kib};
use crate::{images, unit};

/// The control plane's budget is printed beside what it takes.
const CONTROL_PLANE: [&str; 4] = ["kube-store", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const BUDGET_MIB: f64 = 150.0;
const GOAL: Duration = Duration::from_secs(10);
/// Daemons are at rest when nobody has asked anything of them for a while.
const REST: Duration = Duration::from_secs(10);

pub fn run(cluster: &Cluster, up: Duration) -> anyhow::Result<()> {
    images::import_user(&cluster.dir.join("images"), &cluster.node(1).dir.join("containerd/containerd.sock"))?;
    let started = Instant::now();
    let _ = kubectl(cluster, &["delete", "pod", "bench", "--ignore-not-found", "--now"]);
    let pin = format!(
        "--overrides={{\"spec\":{{\"nodeName\":null,\"nodeSelector\":{{\"kubernetes.io/hostname\":\"{}\"}}}}}}",
        cluster.node(1).name
    );
    kubectl(
        cluster,
        &[
            "run",
            "bench",
            &format!("--image={}", images::USER_IMAGE),
            "--image-pull-policy=Never",
            "--restart=Never",
            &pin,
            "--",
            "sleep",
            "3600",
        ],
    )?;
    kubectl(cluster, &["wait", "pod/bench", "--for=jsonpath={.status.phase}=Running", "--timeout=60s"])?;
    let pod = started.elapsed();
    let total = up + pod;
    println!(
        "\nfrom built binaries to the first user pod Running: {:.2} s (up {:.2} s, pod {:.2} s; goal {} s)",
        total.as_secs_f64(),
        up.as_secs_f64(),
        pod.as_secs_f64(),
        GOAL.as_secs()
    );
    kubectl(cluster, &["delete", "pod", "bench", "--now"])?;
    std::thread::sleep(REST);
    memory(cluster)
}

fn memory(cluster: &Cluster) -> anyhow::Result<()> {
    println!("\nresident memory at rest:");
    let mut control_plane = 0.0;
    for name in unit::recorded(cluster) {
        let Some(pid) = unit::running(cluster, &name) else { continue };
        let mib = resident_kib(pid).with_context(|| name.clone())? as f64 / 1024.0;
        println!("  {name:<28} {mib:>7.1} MiB");
        if CONTROL_PLANE.contains(&name.as_str()) {
            control_plane += mib;
        }
    }
    println!("  {:<28} {control_plane:>7.1} MiB (budget {BUDGET_MIB} MiB)", "control plane together");
    Ok(())
}
