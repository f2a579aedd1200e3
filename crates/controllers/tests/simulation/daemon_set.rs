use std::collections::BTreeMap;

use controllers::meta::Meta;
use controllers::{daemon_set, pods};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::Rng;
use serde_json::json;

use crate::for_seeds;
use crate::world::World;

const NAME: &str = "agent";
const NODES: i32 = 5;

fn new(surge: i32, unavailable: i32) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": NAME, "namespace": "ns"},
        "spec": {
            "selector": {"matchLabels": {"app": NAME}},
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    }))
    .expect("a daemon set")
}

fn sync(world: &mut World) {
    let Some(found) = world.get::<DaemonSet>(NAME) else { return };
    let revisions = world.list::<ControllerRevision>();
    let name_taken = |name: &str| revisions.iter().any(|revision| revision.name() == name);
    let observed = daemon_set::Observed {
        set: &found,
        nodes: &world.list::<Node>(),
        pods: &world.list::<Pod>(),
        revisions: &revisions,
        name_taken: &name_taken,
    };
    let plan = daemon_set::plan(&observed, &mut daemon_set::new_backoff(), world.now);
    world.apply(&plan);
}

/// The scheduler's part: a pinned pod lands on its node.
fn bind_pods(world: &mut World) {
    for pod in world.list::<Pod>().iter().filter(|pod| pods::node_name(pod).is_empty()) {
        let node = daemon_set::placement::target_node(pod);
        world.edit(pod.name(), |pod: &mut Pod| pod.spec.get_or_insert_default().node_name = Some(node));
    }
}

fn per_node(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in world.list::<Pod>().iter().filter(|pod| pods::is_active(pod)) {
        *counts.entry(daemon_set::placement::target_node(pod)).or_default() += 1;
    }
    counts
}

fn available(world: &World) -> i32 {
    let pods = world.list::<Pod>();
    let nodes: std::collections::BTreeSet<&str> =
        pods.iter().filter(|pod| pods::is_active(pod) && pods::is_ready(pod)).map(|pod| pods::node_name(pod)).collect();
    i32::try_from(nodes.len()).expect("few")
}

fn settle(world: &mut World, check: impl Fn(&World)) {
    for _ in 0..5000 {
        match world.rng.random_range(0..3) {
            0 => sync(world),
            1 => {
                bind_pods(world);
                world.run_some_pod(|_, _| "Running");
            }
            _ => world.tick(1),
        }
        check(world);
        let found = world.get::<DaemonSet>(NAME).expect("it exists");
        let status = found.status.clone().unwrap_or_default();
        let current = status.observed_generation == Some(found.generation());
        if current && status.updated_number_scheduled == Some(NODES) && status.number_available == Some(NODES) {
            return;
        }
    }
    panic!("not settled: {:#?}", world.get::<DaemonSet>(NAME).and_then(|found| found.status));
}

fn story(seed: u64) {
    let mut world = World::new(seed);
    for index in 0..NODES {
        let node = json!({"metadata": {"name": format!("n{index}")}, "spec": {}});
        world.put(&serde_json::from_value::<Node>(node).expect("a node"));
    }
    let surge = world.rng.random_range(0..3);
    let unavailable = if surge > 0 { 0 } else { world.rng.random_range(1..3) };
    world.put(&new(surge, unavailable));
    settle(&mut world, |_| {});
    world.edit(NAME, |set: &mut DaemonSet| {
        let template = &mut set.spec.get_or_insert_default().template;
        template.spec.get_or_insert_default().containers[0].image = Some("v2".into());
    });
    settle(&mut world, |world| {
        let counts = per_node(world);
        let doubled = counts.values().filter(|count| **count > 1).count();
        assert!(i32::try_from(doubled).expect("few") <= surge, "more than maxSurge: {counts:?}");
        assert!(counts.values().all(|count| *count <= 2), "{counts:?}");
        assert!(available(world) >= NODES - unavailable, "less than maxUnavailable allows");
    });
    assert_eq!(world.list::<ControllerRevision>().len(), 2);
}

#[test]
fn one_pod_per_node_within_the_limits() {
    for_seeds(story);
}
