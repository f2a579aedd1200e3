use std::collections::BTreeMap;

use controllers::job::{self, indexes};
use controllers::meta::Meta;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use rand::Rng;
use serde_json::json;

use crate::for_seeds;
use crate::world::World;

const NAME: &str = "work";

fn new(completions: i32, parallelism: i32, backoff_limit: i32, mode: &str) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": NAME, "namespace": "ns"},
        "spec": {
            "completions": completions, "parallelism": parallelism, "backoffLimit": backoff_limit,
            "completionMode": mode,
            "selector": {"matchLabels": {"job": NAME}},
            "template": {
                "metadata": {"labels": {"job": NAME}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
            },
        },
    }))
    .expect("a job")
}

fn sync(world: &mut World) {
    let Some(found) = world.get::<Job>(NAME) else { return };
    let pods = world.list::<Pod>();
    let plan = job::plan(&job::Observed { job: &found, pods: &pods }, world.now);
    world.apply(&plan);
}

/// Runs to the end; counts how every pod ended, by uid, as a witness.
fn run(world: &mut World, failing_percent: u32) -> Job {
    let mut ended: BTreeMap<String, &'static str> = BTreeMap::new();
    for _ in 0..20_000 {
        match world.rng.random_range(0..4) {
            0 | 1 => sync(world),
            2 => world.run_some_pod(|world, pod| {
                let next = if world.chance(failing_percent) { "Failed" } else { "Succeeded" };
                ended.insert(pod.uid().to_owned(), next);
                next
            }),
            _ => world.tick(10),
        }
        // Finished pods are deleted by somebody now and then; that must not lose their count.
        if world.chance(2) {
            delete_some_finished_pod(world);
        }
        let found = world.get::<Job>(NAME).expect("it exists");
        let status = found.status.clone().unwrap_or_default();
        let succeeded = ended.values().filter(|end| **end == "Succeeded").count();
        assert!(status.succeeded.unwrap_or_default() <= i32::try_from(succeeded).expect("few"), "counted twice");
        if job::finished_condition(&found).is_some() {
            return found;
        }
    }
    panic!("not finished: {:#?}", world.get::<Job>(NAME).and_then(|found| found.status));
}

fn delete_some_finished_pod(world: &mut World) {
    let pods = world.list::<Pod>();
    if let Some(pod) = pods.iter().find(|pod| controllers::pods::is_terminal(pod)) {
        world.write(&controllers::Op::delete(pod.as_ref()));
    }
}

fn complete(seed: u64) {
    let mut world = World::new(seed);
    let completions = world.rng.random_range(1..8);
    let parallelism = world.rng.random_range(1..5);
    world.put(&new(completions, parallelism, 1000, "NonIndexed"));
    let found = run(&mut world, 20);
    let status = found.status.expect("a finished job has one");
    assert_eq!(status.succeeded, Some(completions), "exactly as many as asked for");
    let kinds: Vec<String> = status.conditions.iter().flatten().map(|condition| condition.type_.clone()).collect();
    assert_eq!(kinds, ["SuccessCriteriaMet", "Complete"]);
    assert!(status.completion_time.is_some() && status.active.is_none());
}

#[test]
fn exactly_the_wanted_completions_are_counted() {
    for_seeds(complete);
}

fn indexed(seed: u64) {
    let mut world = World::new(seed);
    let completions = world.rng.random_range(1..8);
    world.put(&new(completions, 3, 1000, "Indexed"));
    let found = run(&mut world, 20);
    let status = found.status.expect("a finished job has one");
    let done = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
    assert_eq!(done, (0..completions).collect());
    assert_eq!(status.succeeded, Some(completions));
}

#[test]
fn every_index_completes_once() {
    for_seeds(indexed);
}

fn fail(seed: u64) {
    let mut world = World::new(seed);
    world.put(&new(3, 2, 2, "NonIndexed"));
    let found = run(&mut world, 100);
    let condition = job::finished_condition(&found).expect("it finished");
    assert_eq!((condition.type_.as_str(), condition.reason.as_deref()), ("Failed", Some("BackoffLimitExceeded")));
    assert!(found.status.expect("it has one").failed > Some(2));
}

#[test]
fn too_many_failures_fail_the_job() {
    for_seeds(fail);
}
