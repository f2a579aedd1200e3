use controllers::meta::Meta;
use controllers::stateful_set::{self, identity::ordinal_of};
use controllers::{pods, revision};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use rand::Rng;
use serde_json::json;

use crate::for_seeds;
use crate::world::World;

const NAME: &str = "db";

fn new(replicas: i32, policy: &str) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": NAME, "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": NAME}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        },
    }))
    .expect("a stateful set")
}

fn sync(world: &mut World) {
    let Some(found) = world.get::<StatefulSet>(NAME) else { return };
    let revisions = world.list::<ControllerRevision>();
    let claims = world.list::<PersistentVolumeClaim>();
    let observed = stateful_set::Observed {
        set: &found,
        pods: &world.list::<Pod>(),
        revisions: &revisions,
        name_taken: &|name| revisions.iter().any(|revision| revision.name() == name),
        claim_exists: &|name| claims.iter().any(|claim| claim.name() == name),
    };
    let plan = stateful_set::plan(&observed, world.now);
    world.apply(&plan);
}

fn ordinals(world: &World, test: impl Fn(&Pod) -> bool) -> Vec<i32> {
    let mut ordinals: Vec<i32> =
        world.list::<Pod>().iter().filter(|pod| test(pod)).filter_map(|pod| ordinal_of(NAME, pod.name())).collect();
    ordinals.sort_unstable();
    ordinals
}

fn settle(world: &mut World, check: impl Fn(&World)) {
    for _ in 0..5000 {
        match world.rng.random_range(0..3) {
            0 => sync(world),
            1 => world.run_some_pod(|_, _| "Running"),
            _ => world.tick(1),
        }
        check(world);
        let found = world.get::<StatefulSet>(NAME).expect("it exists");
        let wanted = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = found.status.clone().unwrap_or_default();
        let settled = status.observed_generation == Some(found.generation())
            && status.replicas == wanted
            && status.ready_replicas.unwrap_or_default() == wanted
            && status.updated_replicas.unwrap_or_default() == wanted
            && status.current_revision == status.update_revision;
        if settled && world.list::<Pod>().len() == usize::try_from(wanted).expect("not negative") {
            return;
        }
    }
    panic!("not settled: {:#?}", world.get::<StatefulSet>(NAME).and_then(|found| found.status));
}

/// In order: whoever exists, all below exist and are ready, but for the one being worked on.
fn check_order(world: &World) {
    let ready = ordinals(world, |pod| pods::is_ready(pod) && !pod.deleting());
    let starting = ordinals(world, |pod| !pods::is_ready(pod) && !pod.deleting());
    assert!(starting.len() <= 1, "two start at a time: {starting:?}");
    if let Some(first) = starting.first() {
        assert!((0..*first).all(|ordinal| ready.contains(&ordinal)), "{first} started before {ready:?} were complete");
    }
}

fn ordered(seed: u64) {
    let mut world = World::new(seed);
    let replicas = world.rng.random_range(1..6);
    world.put(&new(replicas, "OrderedReady"));
    settle(&mut world, check_order);
    world.edit(NAME, |set: &mut StatefulSet| {
        let template = &mut set.spec.get_or_insert_default().template;
        template.spec.get_or_insert_default().containers[0].image = Some("v2".into());
    });
    settle(&mut world, |world| {
        let ready = ordinals(world, |pod| pods::is_ready(pod) && !pod.deleting());
        assert!(i32::try_from(ready.len()).expect("few") >= replicas - 1, "one at a time: {ready:?}");
    });
    world.edit(NAME, |set: &mut StatefulSet| set.spec.get_or_insert_default().replicas = Some(1));
    settle(&mut world, |world| {
        let all = ordinals(world, |_| true);
        assert_eq!(all, (0..i32::try_from(all.len()).expect("few")).collect::<Vec<_>>(), "the highest go first");
    });
    let claims = world.list::<PersistentVolumeClaim>();
    assert_eq!(claims.len(), usize::try_from(replicas).expect("not negative"), "claims outlive their pods");
    let pod = world.get::<Pod>("db-0").expect("it exists");
    let current = world.get::<StatefulSet>(NAME).and_then(|set| set.status).and_then(|status| status.current_revision);
    assert_eq!(pod.label(revision::HASH_LABEL).map(str::to_owned), current);
}

#[test]
fn ordered_sets_move_one_step_at_a_time() {
    for_seeds(ordered);
}

fn parallel(seed: u64) {
    let mut world = World::new(seed);
    world.put(&new(4, "Parallel"));
    settle(&mut world, |_| {});
    world.edit(NAME, |set: &mut StatefulSet| set.spec.get_or_insert_default().replicas = Some(2));
    settle(&mut world, |_| {});
    assert_eq!(ordinals(&world, |_| true), [0, 1]);
}

#[test]
fn parallel_sets_keep_their_ordinals() {
    for_seeds(parallel);
}
