//! InterPodAffinity: near some pods, away from others, by topology domain; existing pods have a say too.

use serde::Deserialize;
use serde_json::Value;

use super::{ArgsError, parse};
use crate::event::Event;
use crate::framework::{Cycle, Filter, MAX_NODE_SCORE, Plugin, PreFilter, Rejection, Score};
use crate::labels::Labels;
use crate::node::NodeInfo;
use crate::pod::{AffinityTerm, PodInfo};
use crate::snapshot::Snapshot;
use crate::topology::TopologySums;

const MAX_HARD_WEIGHT: i64 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct InterPodAffinity {
    /// What a *required* affinity of an existing pod is worth when scoring for the pods it attracts.
    hard_pod_affinity_weight: i64,
    ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        InterPodAffinity { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

pub fn build(args: &Value) -> Result<Box<dyn Plugin>, ArgsError> {
    let plugin: InterPodAffinity = parse(args)?;
    if !(0..=MAX_HARD_WEIGHT).contains(&plugin.hard_pod_affinity_weight) {
        return Err(ArgsError::Invalid("hardPodAffinityWeight: not in valid range [0-100]".into()));
    }
    Ok(Box::new(plugin))
}

impl AffinityTerm {
    /// Whether the term is about `pod`.
    fn covers(&self, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        self.selector.matches(&pod.labels) && self.reaches(&pod.namespace, snapshot)
    }

    fn reaches(&self, namespace: &str, snapshot: &Snapshot) -> bool {
        let unlabelled = Labels::default();
        self.namespaces.iter().any(|n| **n == *namespace)
            || self.namespace_selector.matches(snapshot.namespaces.get(namespace).unwrap_or(&unlabelled))
    }
}

/// The counts a filter needs, kept exact while pods are supposed to come and go.
struct Neighbours<'a> {
    cycle: Cycle<'a>,
    near: &'a [AffinityTerm],
    far: &'a [AffinityTerm],
    /// Pods that match *all* of the pod's affinity terms, by the domains of each term.
    wanted: TopologySums,
    /// Pods that match a term of the pod's anti-affinity.
    unwanted: TopologySums,
    /// Pods whose own anti-affinity is against this pod.
    hostile: TopologySums,
}

impl<'a> Neighbours<'a> {
    fn new(cycle: Cycle<'a>) -> Self {
        let own = cycle.pod.pod_affinity.as_deref();
        let near = own.map(|a| &*a.required).unwrap_or_default();
        let far = own.map(|a| &*a.anti_required).unwrap_or_default();
        let sums = TopologySums::default;
        let mut counts = Neighbours { cycle, near, far, wanted: sums(), unwanted: sums(), hostile: sums() };
        for node in cycle.snapshot.nodes() {
            if near.is_empty() && far.is_empty() {
                node.anti_affinity_pods.iter().for_each(|p| counts.count_hostile(p, node, 1));
            } else {
                node.pods.iter().for_each(|p| counts.count(p, node, 1));
            }
        }
        counts
    }

    fn count(&mut self, other: &PodInfo, node: &NodeInfo, delta: i64) {
        let snapshot = self.cycle.snapshot;
        if !self.near.is_empty() && self.near.iter().all(|term| term.covers(other, snapshot)) {
            self.near.iter().for_each(|term| self.wanted.add(&term.topology_key, &node.labels, delta));
        }
        for term in self.far.iter().filter(|term| term.covers(other, snapshot)) {
            self.unwanted.add(&term.topology_key, &node.labels, delta);
        }
        self.count_hostile(other, node, delta);
    }

    fn count_hostile(&mut self, other: &PodInfo, node: &NodeInfo, delta: i64) {
        let Cycle { snapshot, pod } = self.cycle;
        let terms = other.pod_affinity.iter().flat_map(|a| &a.anti_required);
        for term in terms.filter(|term| term.covers(pod, snapshot)) {
            self.hostile.add(&term.topology_key, &node.labels, delta);
        }
    }

    fn is_needless(&self) -> bool {
        self.near.is_empty() && self.far.is_empty() && self.hostile.is_empty()
    }

    /// The first pod of a group that wants to be together would wait for ever: it may go anywhere with the
    /// right labels when nobody matches yet but the pod itself would.
    fn affinity_holds(&self, node: &NodeInfo) -> bool {
        let labelled = self.near.iter().all(|term| node.labels.contains(&term.topology_key));
        let met = self.near.iter().all(|term| self.wanted.get(&term.topology_key, &node.labels) > 0);
        let Cycle { snapshot, pod } = self.cycle;
        let first = || self.wanted.is_empty() && self.near.iter().all(|term| term.covers(pod, snapshot));
        labelled && (met || first())
    }
}

impl Filter for Neighbours<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.affinity_holds(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if self.unwanted.any(&node.labels) {
            return Err(Rejection::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        if self.hostile.any(&node.labels) {
            return Err(Rejection::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count(pod, node, -1);
    }
}

struct Attraction(TopologySums);

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let neighbours = Neighbours::new(cycle);
        if neighbours.is_needless() { PreFilter::Skip } else { PreFilter::Check(Box::new(neighbours)) }
    }

    fn pre_score<'a>(&'a self, cycle: Cycle<'a>, _feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let own = cycle.pod.pod_affinity.as_deref();
        let prefers = own.is_some_and(|a| !a.preferred.is_empty() || !a.anti_preferred.is_empty());
        if !prefers && self.ignore_preferred_terms_of_existing_pods {
            return None;
        }
        let mut sums = TopologySums::default();
        for node in cycle.snapshot.nodes() {
            let others = if prefers { &node.pods } else { &node.affinity_pods };
            others.iter().for_each(|other| self.weigh(cycle, other, node, &mut sums));
        }
        if sums.is_empty() { None } else { Some(Box::new(Attraction(sums))) }
    }

    fn hint(&self, pod: &PodInfo, event: Event<'_>) -> bool {
        let own = pod.pod_affinity.as_deref();
        let concerns = |other: &PodInfo| {
            let near = own.is_some_and(|a| a.required.iter().any(|t| t.selector.matches(&other.labels)));
            let far = own.is_some_and(|a| a.anti_required.iter().any(|t| t.selector.matches(&other.labels)));
            let theirs = other.pod_affinity.iter().flat_map(|a| &a.anti_required);
            near || far || theirs.into_iter().any(|t| t.selector.matches(&pod.labels))
        };
        match event {
            Event::AssignedPodAdded(other) | Event::AssignedPodDeleted(other) => concerns(other),
            Event::AssignedPodUpdated { old, new } => old.labels != new.labels && (concerns(old) || concerns(new)),
            Event::NamespaceLabelled { .. } => true,
            _ => event.node_changed(|n| &n.labels),
        }
    }
}

impl InterPodAffinity {
    /// What `other`, on `node`, makes its domains worth.
    fn weigh(&self, cycle: Cycle<'_>, other: &PodInfo, node: &NodeInfo, sums: &mut TopologySums) {
        let Cycle { snapshot, pod } = cycle;
        let mut apply = |terms: &[(i64, AffinityTerm)], about: &PodInfo, sign: i64| {
            for (weight, term) in terms.iter().filter(|(_, term)| term.covers(about, snapshot)) {
                sums.add(&term.topology_key, &node.labels, sign * weight);
            }
        };
        if let Some(own) = pod.pod_affinity.as_deref() {
            apply(&own.preferred, other, 1);
            apply(&own.anti_preferred, other, -1);
        }
        let Some(theirs) = other.pod_affinity.as_deref() else { return };
        if !self.ignore_preferred_terms_of_existing_pods {
            apply(&theirs.preferred, pod, 1);
            apply(&theirs.anti_preferred, pod, -1);
        }
        let hard = self.hard_pod_affinity_weight;
        for term in theirs.required.iter().filter(|term| hard > 0 && term.covers(pod, snapshot)) {
            sums.add(&term.topology_key, &node.labels, hard);
        }
    }
}

impl Score for Attraction {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.0.total(&node.labels)
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        let (Some(min), Some(max)) = (scores.iter().copied().min(), scores.iter().copied().max()) else { return };
        for score in scores {
            *score = match max - min {
                0 => 0,
                span => (MAX_NODE_SCORE as f64 * ((*score - min) as f64 / span as f64)) as i64,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, labelled, pod, scores, verdicts};
    use serde_json::json;

    fn zones(pods: Vec<(&'static str, PodInfo)>) -> Snapshot {
        let node = |name: &str, zone: &str| labelled(name, json!({"zone": zone}));
        cluster([node("a1", "a"), node("a2", "a"), node("b1", "b"), labelled("bare", json!({}))], pods)
    }

    fn term(app: &str) -> Value {
        json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}})
    }

    fn with(name: &str, app: &str, affinity: Value) -> PodInfo {
        pod(name, json!({"metadata": {"labels": {"app": app}}, "spec": {"affinity": affinity}}))
    }

    fn near(terms: Value) -> Value {
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
    }

    fn far(terms: Value) -> Value {
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
    }

    fn check(snapshot: &Snapshot, pod: &PodInfo, expected: [Option<&str>; 4]) {
        let got = verdicts("InterPodAffinity", json!(null), snapshot, pod);
        assert_eq!(got, expected.map(|e| e.map(String::from)));
    }

    const NEAR: Option<&str> = Some("node(s) didn't match pod affinity rules");
    const FAR: Option<&str> = Some("node(s) didn't match pod anti-affinity rules");
    const HOSTILE: Option<&str> = Some("node(s) didn't satisfy existing pods anti-affinity rules");

    #[test]
    fn required_affinity() {
        let snapshot = zones(vec![("a1", with("db", "db", json!({})))]);
        check(&snapshot, &with("p", "web", near(json!([term("db")]))), [None, None, NEAR, NEAR]);
        check(&snapshot, &with("p", "web", near(json!([term("none")]))), [NEAR; 4]);
        // The first of its kind may start anywhere the topology key exists.
        check(&snapshot, &with("p", "web", near(json!([term("web")]))), [None, None, None, NEAR]);
        check(&snapshot, &with("p", "web", near(json!([term("db"), term("web")]))), [NEAR; 4]);
    }

    #[test]
    fn required_anti_affinity() {
        let snapshot = zones(vec![("b1", with("db", "db", json!({})))]);
        check(&snapshot, &with("p", "web", far(json!([term("db")]))), [None, None, FAR, None]);
        check(&snapshot, &with("p", "web", far(json!([term("web")]))), [None; 4]);
    }

    #[test]
    fn existing_pods_keep_others_away() {
        let snapshot = zones(vec![("a2", with("shy", "shy", far(json!([term("web")]))))]);
        check(&snapshot, &with("p", "web", json!({})), [HOSTILE, HOSTILE, None, None]);
        check(&snapshot, &with("p", "db", json!({})), [None; 4]);
    }

    #[test]
    fn namespaces() {
        let mut elsewhere = with("db", "db", json!({}));
        elsewhere.namespace = "prod".into();
        let mut snapshot = zones(vec![("a1", elsewhere)]);
        snapshot.namespaces.insert("prod".into(), Labels::from([("env", "prod")]));
        let pod = |namespaces: Value| {
            let mut term = term("db");
            for (key, value) in namespaces.as_object().expect("an object") {
                term[key] = value.clone();
            }
            with("p", "web", near(json!([term])))
        };
        check(&snapshot, &pod(json!({})), [NEAR; 4]);
        check(&snapshot, &pod(json!({"namespaces": ["prod"]})), [None, None, NEAR, NEAR]);
        check(&snapshot, &pod(json!({"namespaceSelector": {}})), [None, None, NEAR, NEAR]);
        let labelled = |env: &str| json!({"namespaceSelector": {"matchLabels": {"env": env}}});
        check(&snapshot, &pod(labelled("prod")), [None, None, NEAR, NEAR]);
        check(&snapshot, &pod(labelled("test")), [NEAR; 4]);
    }

    #[test]
    fn supposing_is_undone_exactly() {
        let db = with("db", "db", near(json!([term("web")])));
        let snapshot = zones(vec![("a1", db.clone()), ("b1", with("db2", "db", far(json!([term("web")]))))]);
        let pod = with(
            "p",
            "web",
            json!({
                "podAffinity": near(json!([term("db")]))["podAffinity"],
                "podAntiAffinity": far(json!([term("cache")]))["podAntiAffinity"],
            }),
        );
        let mut neighbours = Neighbours::new(Cycle { snapshot: &snapshot, pod: &pod });
        let before = (neighbours.wanted.clone(), neighbours.unwanted.clone(), neighbours.hostile.clone());
        let node = snapshot.nodes()[0].clone();
        neighbours.remove_pod(&db, &node);
        assert_ne!(neighbours.wanted, before.0);
        neighbours.add_pod(&db, &node);
        assert_eq!((neighbours.wanted, neighbours.unwanted, neighbours.hostile), before);
    }

    #[test]
    fn score() {
        let preferred = |kind: &str, weight: i32, app: &str| json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": term(app)}]}});
        let snapshot =
            zones(vec![("a1", with("db", "db", json!({}))), ("b1", with("fan", "fan", near(json!([term("web")]))))]);
        let check = |affinity: Value, expected: Option<[i64; 4]>| {
            let got = scores("InterPodAffinity", json!(null), &snapshot, &with("p", "web", affinity.clone()));
            assert_eq!(got, expected.map(Vec::from), "{affinity}");
        };
        // fan's required affinity to web counts 1 in zone b, even for a pod without preferences.
        check(json!({}), Some([0, 0, 100, 0]));
        check(preferred("podAffinity", 4, "db"), Some([100, 100, 25, 0]));
        check(preferred("podAntiAffinity", 4, "db"), Some([0, 0, 100, 80]));
        let nobody = zones(vec![]);
        assert_eq!(scores("InterPodAffinity", json!(null), &nobody, &with("p", "web", json!({}))), None);
    }
}
