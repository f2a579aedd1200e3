//! `hack/down`: stops a cluster and leaves nothing of it behind but its data.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::cluster::{Cluster, Node};
use crate::reservation::Reservations;
use crate::steps::Steps;
use crate::{cni_results, network, sweep, unit};

/// Daemons drain in less; one that does not is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

pub fn run(dir: &Path, wipe: bool) -> anyhow::Result<()> {
    let Some(cluster) = Cluster::load(dir)? else {
        eprintln!("there is no cluster in {}", dir.display());
        return Ok(());
    };
    let _lock = Cluster::lock(&cluster.dir)?;
    let nodes: Vec<Node> = (1..=crate::cluster::MAX_NODES).map(|n| cluster.node(n)).collect();
    let mut steps = Steps::new(if wipe { 6 } else { 5 });
    steps.step("stop the daemons", &cluster, &[], || {
        let (runtimes, daemons) =
            unit::recorded(&cluster).into_iter().partition::<Vec<_>, _>(|u| u.ends_with(".containerd"));
        // What holds a lease gives it back, for which the API server and its store must still be there.
        let last = |unit: &String| unit == "kube-apiserver" || unit == "etcd" || unit.starts_with("kube-store");
        let (servers, clients) = daemons.into_iter().partition::<Vec<_>, _>(last);
        unit::stop(&cluster, &clients, STOP_DEADLINE);
        unit::stop(&cluster, &servers, STOP_DEADLINE);
        sweep::containers(&nodes)?;
        unit::stop(&cluster, &runtimes, STOP_DEADLINE);
        sweep::daemons(&cluster, STOP_DEADLINE)
    })?;
    steps.step("end what is left of the containers", &cluster, &[], || {
        sweep::shims(&cluster, &nodes);
        sweep::containers(&nodes)
    })?;
    steps.step("unmount", &cluster, &[], || sweep::mounts(&cluster.dir))?;
    steps.step("remove the cgroups", &cluster, &[], || sweep::cgroups(&nodes))?;
    steps.step("remove the network", &cluster, &[], || {
        cni_results::remove(Path::new(cni_results::DIRECTORY), &cluster.dir)?;
        network::remove(&cluster)
    })?;
    if wipe {
        steps.step("remove the data", &cluster, &[], || {
            Reservations::default().release(&cluster);
            fs::remove_dir_all(&cluster.dir).with_context(|| format!("cannot remove {}", cluster.dir.display()))
        })?;
    }
    Ok(())
}
