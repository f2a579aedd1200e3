use std::sync::Arc;

use controllers::meta::Meta;
use controllers::{deployment, pods, replica_set};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use rand::Rng;
use serde_json::json;

use crate::for_seeds;
use crate::world::World;

const NAME: &str = "web";

fn new(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": NAME, "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": 600,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    }))
    .expect("a deployment")
}

fn sync_deployment(world: &mut World) {
    let Some(found) = world.get::<Deployment>(NAME) else { return };
    let sets = world.list::<ReplicaSet>();
    let name_taken = |name: &str| sets.iter().any(|set| set.name() == name);
    let observed = deployment::Observed {
        deployment: &found,
        sets: &sets,
        pods: &world.list::<Pod>(),
        name_taken: &name_taken,
        failure: None,
    };
    let plan = deployment::plan(&observed, world.now);
    world.apply(&plan);
}

fn sync_some_set(world: &mut World) {
    let sets = world.list::<ReplicaSet>();
    if sets.is_empty() {
        return;
    }
    let set = sets[world.rng.random_range(0..sets.len())].clone();
    let pods = world.list::<Pod>();
    let observed = replica_set::Observed { set: &set, pods: &pods, related: &pods, failure: None };
    let plan = replica_set::plan(&observed, world.now);
    world.apply(&plan);
}

fn step(world: &mut World) {
    match world.rng.random_range(0..10) {
        0..3 => sync_deployment(world),
        3..6 => sync_some_set(world),
        6..9 => world.run_some_pod(|_, _| "Running"),
        _ => world.tick(1),
    }
}

fn available(world: &World) -> i32 {
    let pods = world.list::<Pod>();
    let count = pods.iter().filter(|pod| pods::is_active(pod) && pods::is_available(pod, 0, world.now)).count();
    i32::try_from(count).expect("few")
}

fn wanted_total(world: &World) -> i32 {
    world.list::<ReplicaSet>().iter().filter_map(|set| set.spec.as_ref()?.replicas).sum()
}

fn settle(world: &mut World, check: impl Fn(&World)) {
    for _ in 0..5000 {
        step(world);
        check(world);
        let status = world.get::<Deployment>(NAME).and_then(|found| found.status).unwrap_or_default();
        let done = status.conditions.iter().flatten().any(|condition| {
            condition.reason.as_deref() == Some("NewReplicaSetAvailable") && status.unavailable_replicas.is_none()
        });
        let spec = world.get::<Deployment>(NAME).and_then(|found| found.spec).expect("it exists");
        let deployment = world.get::<Deployment>(NAME).expect("it exists");
        if done
            && status.observed_generation == Some(deployment.generation())
            && status.updated_replicas.unwrap_or_default() == spec.replicas.unwrap_or(1)
            && status.replicas == status.updated_replicas
            && wanted_total(world) == spec.replicas.unwrap_or(1)
        {
            return;
        }
    }
    panic!("not settled: {:#?}", world.get::<Deployment>(NAME).and_then(|found| found.status));
}

fn set_image(world: &mut World, image: &str) {
    let image = image.to_owned();
    world.edit(NAME, |found: &mut Deployment| {
        let spec = &mut found.spec.get_or_insert_default().template;
        spec.spec.get_or_insert_default().containers[0].image = Some(image);
    });
}

fn roll(seed: u64) {
    let mut world = World::new(seed);
    let replicas = world.rng.random_range(1..8);
    let surge = world.rng.random_range(0..3);
    let unavailable = if surge == 0 { 1 } else { world.rng.random_range(0..2) };
    world.put(&new(replicas, surge, unavailable));
    settle(&mut world, |_| {});
    for image in ["v2", "v3", "v2"] {
        set_image(&mut world, image);
        settle(&mut world, |world| {
            assert!(wanted_total(world) <= replicas + surge, "never more than maxSurge above");
            assert!(available(world) >= replicas - unavailable, "never more than maxUnavailable below");
        });
    }
    let new: Vec<Arc<ReplicaSet>> = world
        .list::<ReplicaSet>()
        .into_iter()
        .filter(|set| set.spec.as_ref().is_some_and(|s| s.replicas != Some(0)))
        .collect();
    assert_eq!(new.len(), 1);
    // v1, v2, v3, and v2 again: the second set was reused and got the next number.
    assert_eq!(new[0].annotation(deployment::REVISION), Some("4"));
    assert_eq!(new[0].annotation(deployment::REVISION_HISTORY), Some("2"));
    assert_eq!(world.list::<ReplicaSet>().len(), 3);
    assert_eq!(world.get::<Deployment>(NAME).expect("it exists").annotation(deployment::REVISION), Some("4"));
}

#[test]
fn a_rolling_update_stays_within_its_limits() {
    for_seeds(roll);
}

fn scale(seed: u64) {
    let mut world = World::new(seed);
    world.put(&new(4, 2, 1));
    settle(&mut world, |_| {});
    set_image(&mut world, "v2");
    for _ in 0..world.rng.random_range(0..60) {
        step(&mut world);
    }
    let target = world.rng.random_range(0..12);
    world.edit(NAME, |found: &mut Deployment| found.spec.get_or_insert_default().replicas = Some(target));
    settle(&mut world, |world| assert!(wanted_total(world) <= target.max(4) + 2));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_settles() {
    for_seeds(scale);
}

fn recreate(seed: u64) {
    let mut world = World::new(seed);
    let mut first = new(3, 0, 0);
    first.spec.get_or_insert_default().strategy = serde_json::from_value(json!({"type": "Recreate"})).expect("valid");
    world.put(&first);
    settle(&mut world, |_| {});
    set_image(&mut world, "v2");
    settle(&mut world, |world| {
        let images: std::collections::BTreeSet<String> =
            world.list::<Pod>().iter().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone()).collect();
        assert!(images.len() <= 1, "two versions side by side: {images:?}");
    });
}

#[test]
fn recreate_never_runs_two_versions() {
    for_seeds(recreate);
}
