use controllers::Kind;
use controllers::garbage::{Graph, Node, OwnerState};
use controllers::plan::{Op, Propagation};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use rand::Rng;
use serde_json::json;

use crate::for_seeds;
use crate::world::{World, kind_of};

/// A graph that knows all of the world, though it heard of it in random order.
fn graph(world: &mut World) -> (Graph, Vec<String>) {
    let kind: Kind = kind_of::<ConfigMap>();
    let mut nodes: Vec<Node> =
        world.list::<ConfigMap>().iter().map(|object| Node::new(&kind, &object.metadata)).collect();
    let mut graph = Graph::default();
    while !nodes.is_empty() {
        let node = nodes.swap_remove(world.rng.random_range(0..nodes.len()));
        graph.observe(node);
    }
    let uids = world.list::<ConfigMap>().iter().filter_map(|object| object.metadata.uid.clone()).collect();
    (graph, uids)
}

fn sync_some(world: &mut World) {
    let (graph, uids) = graph(world);
    if uids.is_empty() {
        return;
    }
    let uid = &uids[world.rng.random_range(0..uids.len())];
    let node = graph.node(uid).expect("observed").clone();
    let state = |owner: &OwnerReference| match graph.owner_state(&node, owner) {
        OwnerState::Unknown => OwnerState::Absent,
        known => known,
    };
    let (plan, _) = graph.plan(uid, &state);
    world.apply(&plan);
}

fn add(world: &mut World, name: &str, owners: &[(&str, bool)]) {
    let reference = |(name, blocks): &(&str, bool)| {
        let owner = world.get::<ConfigMap>(name).expect("owners come first");
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner.metadata.uid,
            "blockOwnerDeletion": blocks})
    };
    let owners: Vec<_> = owners.iter().map(reference).collect();
    let object = json!({"metadata": {"name": name, "namespace": "ns", "ownerReferences": owners}});
    world.put(&serde_json::from_value::<ConfigMap>(object).expect("a config map"));
}

fn family(seed: u64) -> World {
    let mut world = World::new(seed);
    add(&mut world, "parent", &[]);
    add(&mut world, "other", &[]);
    add(&mut world, "child", &[("parent", true)]);
    add(&mut world, "shared", &[("parent", true), ("other", true)]);
    add(&mut world, "grandchild", &[("child", true)]);
    world
}

fn delete(world: &mut World, policy: Propagation) {
    let parent = world.get::<ConfigMap>("parent").expect("it exists");
    world.write(&Op::delete(&parent).propagation(policy));
}

fn names(world: &World) -> Vec<String> {
    world.list::<ConfigMap>().iter().filter_map(|object| object.metadata.name.clone()).collect()
}

fn settle(world: &mut World, check: impl Fn(&World)) {
    for _ in 0..400 {
        sync_some(world);
        check(world);
    }
}

fn background(seed: u64) {
    let mut world = family(seed);
    delete(&mut world, Propagation::Background);
    settle(&mut world, |_| {});
    assert_eq!(names(&world), ["other", "shared"]);
    let shared: ObjectMeta = world.get::<ConfigMap>("shared").expect("it has another owner").metadata;
    assert_eq!(shared.owner_references.expect("the other one").len(), 1);
}

fn foreground(seed: u64) {
    let mut world = family(seed);
    delete(&mut world, Propagation::Foreground);
    settle(&mut world, |world| {
        let names = names(world);
        let there = |name: &str| names.iter().any(|found| found == name);
        assert!(there("parent") || !there("child"), "the owner went before its dependents: {names:?}");
        assert!(there("child") || !there("grandchild"), "{names:?}");
    });
    assert_eq!(names(&world), ["other", "shared"]);
}

fn orphan(seed: u64) {
    let mut world = family(seed);
    delete(&mut world, Propagation::Orphan);
    settle(&mut world, |_| {});
    assert_eq!(names(&world), ["child", "grandchild", "other", "shared"]);
    assert!(
        world.get::<ConfigMap>("child").expect("orphaned").metadata.owner_references.unwrap_or_default().is_empty()
    );
}

#[test]
fn background_deletion_takes_what_has_no_other_owner() {
    for_seeds(background);
}

#[test]
fn foreground_deletion_takes_dependents_first() {
    for_seeds(foreground);
}

#[test]
fn orphaning_leaves_dependents_alone() {
    for_seeds(orphan);
}
