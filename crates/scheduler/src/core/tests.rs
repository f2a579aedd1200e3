use serde_json::{Value, json};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A core and a clock that only moves when told to.
struct Rig {
    core: Core,
    now: Instant,
}

impl Rig {
    fn new(nodes: &[&str]) -> Self {
        let metrics = Metrics::new(&daemon::metrics::Metrics::default());
        let core = Core::new(vec![Profile::default()], Backoff::default(), 1, metrics);
        let mut rig = Rig { core, now: Instant::now() };
        nodes.iter().for_each(|name| rig.node(name, json!({})));
        rig
    }

    fn node(&mut self, name: &str, spec: Value) {
        let status = json!({"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}});
        let node = json!({"metadata": {"name": name}, "spec": spec, "status": status});
        self.core.node_changed(&NodeInfo::new(&serde_json::from_value(node).expect("a node")), self.now);
    }

    fn step(&mut self) -> Option<Effect> {
        self.core.step(self.now)
    }

    fn binding(&mut self) -> Binding {
        match self.step() {
            Some(Effect::Bind(binding)) => binding,
            other => panic!("expected a binding: {other:?}"),
        }
    }

    fn report(&mut self) -> Report {
        match self.step() {
            Some(Effect::Report(report)) => report,
            other => panic!("expected a report: {other:?}"),
        }
    }

    fn pod(&mut self, pod: &Arc<PodInfo>) {
        self.core.pod_changed(pod.clone(), self.now);
    }

    fn milli_cpu(&self, node: &str) -> i64 {
        self.core.snapshot.node(node).map_or(0, |n| n.requested.milli_cpu)
    }
}

fn pod(name: &str, milli_cpu: i64, priority: i32) -> Arc<PodInfo> {
    let requests = json!({"requests": {"cpu": format!("{milli_cpu}m")}});
    let object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": requests}]},
    });
    Arc::new(PodInfo::new(&serde_json::from_value(object).expect("a pod")))
}

fn on(pod: &Arc<PodInfo>, node: &str) -> Arc<PodInfo> {
    Arc::new(PodInfo { node_name: node.into(), ..(**pod).clone() })
}

#[test]
fn an_assumed_pod_counts_until_it_is_seen_bound() {
    let mut rig = Rig::new(&["n"]);
    let first = pod("first", 600, 0);
    rig.pod(&first);
    let binding = rig.binding();
    assert_eq!((&*binding.node, rig.milli_cpu("n")), ("n", 600));
    rig.core.bound(&binding, rig.now);
    rig.pod(&on(&first, "n"));
    assert_eq!(rig.milli_cpu("n"), 600);
    rig.pod(&pod("second", 600, 0));
    assert_eq!(
        rig.report().message,
        "0/1 nodes are available: 1 Insufficient cpu. \
         preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    assert!(rig.step().is_none());
}

#[test]
fn a_failed_binding_gives_the_place_back_and_is_retried() {
    let mut rig = Rig::new(&["n"]);
    rig.pod(&pod("a", 600, 0));
    let binding = rig.binding();
    rig.pod(&pod("b", 600, 0));
    rig.report();
    rig.core.not_bound(&binding, false, rig.now);
    assert_eq!(rig.milli_cpu("n"), 0);
    // b was woken by what a gave back; a itself backs off.
    assert_eq!(&*rig.binding().pod.name, "b");
    assert!(rig.step().is_none());
    assert_eq!(rig.core.deadline(), Some(rig.now + SECOND));
    rig.now += SECOND;
    assert_eq!(&*rig.report().pod.name, "a");
}

#[test]
fn an_assumption_that_is_never_confirmed_expires() {
    let mut rig = Rig::new(&["n"]);
    rig.pod(&pod("a", 600, 0));
    let binding = rig.binding();
    rig.now += ASSUMPTION_LIFETIME * 2;
    assert!(rig.step().is_none());
    assert_eq!(rig.milli_cpu("n"), 600, "a binding under way does not expire");
    rig.core.bound(&binding, rig.now);
    assert_eq!(rig.core.deadline(), Some(rig.now + ASSUMPTION_LIFETIME));
    rig.now += ASSUMPTION_LIFETIME;
    assert!(rig.step().is_none());
    assert_eq!(rig.milli_cpu("n"), 0);
}

#[test]
fn what_happens_wakes_only_whom_it_can_help() {
    let mut rig = Rig::new(&[]);
    rig.pod(&pod("a", 600, 0));
    assert_eq!(rig.report().message, "no nodes available to schedule pods");
    rig.node("n", json!({"unschedulable": true}));
    assert!(rig.report().message.starts_with("0/1 nodes are available: 1 node(s) were unschedulable."));
    rig.node("n", json!({"unschedulable": true, "taints": [{"key": "k", "effect": "NoSchedule"}]}));
    assert!(rig.step().is_none());
    rig.node("n", json!({}));
    assert_eq!(&*rig.binding().node, "n");
}

#[test]
fn preemption_evicts_promises_and_then_binds() {
    let mut rig = Rig::new(&["n"]);
    let low = on(&pod("low", 800, 1), "n");
    rig.pod(&low);
    let high = pod("high", 800, 9);
    rig.pod(&high);
    let report = rig.report();
    assert_eq!(report.nomination, Nomination::Set("n".into()));
    assert_eq!(report.victims.iter().map(|v| &*v.name).collect::<Vec<_>>(), ["low"]);
    // The room is promised: nobody of lower priority slips in between.
    rig.pod(&pod("sneaky", 800, 5));
    rig.core.pod_deleted(&low, rig.now);
    assert_eq!(&*rig.report().pod.name, "sneaky");
    let binding = rig.binding();
    assert_eq!(&*binding.pod.name, "high");
}

#[test]
fn a_higher_promise_takes_over_a_lower_one() {
    let mut rig = Rig::new(&["n"]);
    rig.pod(&on(&pod("victim", 800, 1), "n"));
    rig.pod(&pod("mid", 800, 5));
    assert_eq!(rig.report().victims.len(), 1);
    rig.pod(&pod("top", 800, 9));
    let report = rig.report();
    assert_eq!(report.demoted.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["mid"]);
}

#[test]
fn pods_of_others_and_finished_pods_are_left_alone() {
    let mut rig = Rig::new(&["n"]);
    let foreign = PodInfo { scheduler_name: "other".into(), ..(*pod("a", 1, 0)).clone() };
    rig.pod(&Arc::new(foreign));
    let leaving = PodInfo { terminating: true, ..(*pod("b", 1, 0)).clone() };
    rig.pod(&Arc::new(leaving));
    assert!(rig.step().is_none());
    let running = on(&pod("c", 500, 0), "n");
    rig.pod(&running);
    assert_eq!(rig.milli_cpu("n"), 500);
    rig.pod(&Arc::new(PodInfo { finished: true, ..(*running).clone() }));
    assert_eq!(rig.milli_cpu("n"), 0);
}

#[test]
fn a_pod_deleted_while_being_bound_leaves_nothing_behind() {
    let mut rig = Rig::new(&["n"]);
    let a = pod("a", 600, 0);
    rig.pod(&a);
    let binding = rig.binding();
    rig.core.pod_deleted(&a, rig.now);
    rig.core.not_bound(&binding, true, rig.now);
    assert_eq!((rig.milli_cpu("n"), rig.core.deadline()), (0, None));
    assert_eq!(rig.core.cache_sizes(), (1, 0, 0));
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let run = || {
        let mut rig = Rig::new(&["a", "b", "c"]);
        let names = ["1", "2", "3", "4", "5", "6"];
        names.iter().for_each(|name| rig.pod(&pod(name, 100, 0)));
        names.map(|_| rig.binding().node.to_string())
    };
    assert_eq!(run(), run());
}
