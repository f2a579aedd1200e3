//! DefaultPreemption: when a pod fits nowhere, find the node where evicting pods of lower priority hurts least.
//!
//! Each candidate node is tried in thought only: victims are supposed gone, then spared again one by one, the
//! most important first, as long as the pod still fits. The filters are left as they were found.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{ArgsError, parse};
use crate::diagnosis::Diagnosis;
use crate::event::Event;
use crate::framework::{Plugin, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::schedule::{Attempt, Nomination, PostFilter, mix};
use crate::snapshot::{Budget, Snapshot};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct DefaultPreemption {
    min_candidate_nodes_percentage: usize,
    min_candidate_nodes_absolute: usize,
}

impl Default for DefaultPreemption {
    fn default() -> Self {
        DefaultPreemption { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

pub fn build(args: &Value) -> Result<Box<dyn Plugin>, ArgsError> {
    let plugin: DefaultPreemption = parse(args)?;
    if plugin.min_candidate_nodes_percentage > 100 {
        return Err(ArgsError::Invalid("minCandidateNodesPercentage: not in valid range [0, 100]".into()));
    }
    if plugin.min_candidate_nodes_percentage == 0 && plugin.min_candidate_nodes_absolute == 0 {
        let text = "minCandidateNodesPercentage and minCandidateNodesAbsolute cannot both be zero";
        return Err(ArgsError::Invalid(text.into()));
    }
    Ok(Box::new(plugin))
}

const NAME: &str = "DefaultPreemption";

/// What making room on one node would cost.
struct Candidate {
    node: Arc<str>,
    /// The most important first.
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        NAME
    }

    fn post_filter(&self, attempt: &mut Attempt<'_>) -> Option<PostFilter> {
        let mut result = self.preempt(attempt);
        result.attempted = true;
        if !result.message.is_empty() {
            result.message = format!("preemption: {}", result.message);
        }
        Some(result)
    }

    fn hint(&self, _pod: &PodInfo, _event: Event<'_>) -> bool {
        false
    }
}

impl DefaultPreemption {
    fn preempt(&self, attempt: &mut Attempt<'_>) -> PostFilter {
        if let Some(message) = ineligible(attempt) {
            return PostFilter { message: message.into(), ..PostFilter::default() };
        }
        let nodes = helpful_nodes(attempt);
        let (candidates, diagnosis) = self.dry_run(attempt, &nodes);
        match best(candidates) {
            Some(candidate) => PostFilter {
                nomination: Nomination::Set(candidate.node),
                victims: candidate.victims,
                ..PostFilter::default()
            },
            None => PostFilter { message: diagnosis.message(), nomination: Nomination::Clear, ..PostFilter::default() },
        }
    }

    /// Tries nodes from a seeded start until there are enough candidates to choose from.
    fn dry_run(&self, attempt: &mut Attempt<'_>, nodes: &[Arc<NodeInfo>]) -> (Vec<Candidate>, Diagnosis) {
        let unhelpful = Rejection::unresolvable("Preemption is not helpful for scheduling");
        let all_nodes = attempt.diagnosis.all_nodes;
        let mut diagnosis = Diagnosis { all_nodes, absent: Some(unhelpful), ..Diagnosis::default() };
        let share = nodes.len() * self.min_candidate_nodes_percentage / 100;
        let enough = share.max(self.min_candidate_nodes_absolute).min(nodes.len());
        let start = if nodes.is_empty() { 0 } else { mix(attempt.seed) as usize % nodes.len() };
        let (mut candidates, mut harmless) = (Vec::new(), false);
        for node in nodes[start..].iter().chain(&nodes[..start]) {
            match select_victims(attempt, node) {
                Ok(candidate) => {
                    harmless |= candidate.violations == 0;
                    candidates.push(candidate);
                }
                Err(rejection) => diagnosis.reject(node.name.clone(), NAME, rejection),
            }
            if harmless && candidates.len() >= enough {
                break;
            }
        }
        (candidates, diagnosis)
    }
}

fn ineligible(attempt: &Attempt<'_>) -> Option<&'static str> {
    let pod = attempt.cycle.pod;
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = attempt.cycle.snapshot.node(&pod.nominated_node)?;
    if attempt.diagnosis.of(&node.name).is_some_and(|d| !d.rejection.resolvable) {
        return None;
    }
    let leaving = |p: &&Arc<PodInfo>| p.priority < pod.priority && p.preempted;
    let waits = node.pods.iter().any(|p| leaving(&p));
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The nodes that were turned down for something eviction can change.
fn helpful_nodes(attempt: &Attempt<'_>) -> Vec<Arc<NodeInfo>> {
    let snapshot = attempt.cycle.snapshot;
    if let Some(rejection) = &attempt.diagnosis.pre_filter {
        return if rejection.resolvable { snapshot.in_order().cloned().collect() } else { Vec::new() };
    }
    let resolvable = attempt.diagnosis.nodes.iter().filter(|d| d.rejection.resolvable);
    resolvable.filter_map(|d| snapshot.node(&d.node)).cloned().collect()
}

/// The fewest victims that make the pod fit on the node.
fn select_victims(attempt: &mut Attempt<'_>, node: &NodeInfo) -> Result<Candidate, Rejection> {
    let priority = attempt.cycle.pod.priority;
    let mut potential: Vec<Arc<PodInfo>> = node.pods.iter().filter(|p| p.priority < priority).cloned().collect();
    if potential.is_empty() {
        return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
    }
    potential.sort_by(more_important_first);
    let mut emptied = node.clone();
    potential.iter().for_each(|victim| attempt.remove_pod(victim, &mut emptied));
    let result = match attempt.fits(&emptied) {
        Ok(()) => Ok(spare(attempt, &mut emptied, &potential)),
        Err((_, rejection)) => Err(rejection),
    };
    restore(attempt, &mut emptied, &potential);
    let (victims, violations) = result?;
    Ok(Candidate { node: node.name.clone(), victims, violations })
}

/// Puts back whom the pod can do without evicting; first those whose eviction a budget forbids.
fn spare(attempt: &mut Attempt<'_>, node: &mut NodeInfo, potential: &[Arc<PodInfo>]) -> (Vec<Arc<PodInfo>>, usize) {
    let (violating, harmless) = split_by_budget(potential, attempt.cycle.snapshot);
    let protected = violating.len();
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (i, pod) in violating.into_iter().chain(harmless).enumerate() {
        attempt.add_pod(pod.clone(), node);
        if attempt.fits(node).is_err() {
            attempt.remove_pod(&pod, node);
            violations += usize::from(i < protected);
            victims.push(pod);
        }
    }
    victims.sort_by(more_important_first);
    (victims, violations)
}

fn restore(attempt: &mut Attempt<'_>, node: &mut NodeInfo, potential: &[Arc<PodInfo>]) {
    for pod in potential {
        if !node.pods.iter().any(|p| p.uid == pod.uid) {
            attempt.add_pod(pod.clone(), node);
        }
    }
}

/// Higher priority, then longer running.
fn more_important_first(a: &Arc<PodInfo>, b: &Arc<PodInfo>) -> std::cmp::Ordering {
    let started = |p: &PodInfo| (p.started.is_none(), p.started);
    b.priority.cmp(&a.priority).then_with(|| started(a).cmp(&started(b)))
}

/// Those whose eviction would break a PodDisruptionBudget, and the rest. Budgets are spent in the given order.
fn split_by_budget(pods: &[Arc<PodInfo>], snapshot: &Snapshot) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: Vec<(&str, &Budget, i32)> =
        snapshot.budgets.iter().map(|((namespace, _), b)| (&**namespace, b, b.allowed)).collect();
    pods.iter().cloned().partition(|pod| {
        let mut violated = false;
        for (namespace, budget, allowed) in &mut left {
            let covers = *namespace == &*pod.namespace
                && !pod.labels.is_empty()
                && !budget.selector.is_everything()
                && budget.selector.matches(&pod.labels)
                && !budget.disrupted.contains(&pod.name);
            if covers {
                *allowed -= 1;
                violated |= *allowed < 0;
            }
        }
        violated
    })
}

/// Upstream's order of regret: budgets broken, then the most important victim, the sum of priorities, the
/// number of victims, and last how long the most important ones have been running.
fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    let cost = |c: &Candidate| {
        let highest = c.victims.first().map_or(i32::MIN, |v| v.priority);
        // Shifted so that more victims of negative priority still cost more.
        let sum: i64 = c.victims.iter().map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1).sum();
        let earliest = c.victims.iter().filter(|v| v.priority == highest).map(|v| v.started).min().flatten();
        (c.violations, highest, sum, c.victims.len(), std::cmp::Reverse(earliest))
    };
    candidates.into_iter().reduce(|best, other| if cost(&other) < cost(&best) { other } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, node, pod, sized};
    use crate::{Outcome, Profile, schedule};
    use serde_json::json;

    fn one_core(name: &str) -> NodeInfo {
        node(name, json!({"status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}}}))
    }

    /// The node and the victims' names, or the message.
    fn check(snapshot: &Snapshot, pod: &PodInfo, expected: Result<(&str, &[&str]), &str>) {
        for seed in 0..4 {
            let outcome = schedule(&Profile::default(), snapshot, pod, seed).outcome;
            let Outcome::Unfit(_, post) = &outcome else { panic!("it fits: {outcome:?}") };
            let names: Vec<&str> = post.victims.iter().map(|v| &*v.name).collect();
            match (&post.nomination, expected) {
                (Nomination::Set(node), Ok(expected)) => assert_eq!((&**node, &names[..]), expected),
                (_, expected) => assert_eq!(outcome.message().as_deref(), expected.err()),
            }
        }
    }

    #[test]
    fn the_lowest_priority_goes_first() {
        let pods = [("a", sized("low", 400, 1)), ("a", sized("mid", 400, 5)), ("b", sized("high", 900, 8))];
        let snapshot = cluster([one_core("a"), one_core("b")], pods);
        check(&snapshot, &sized("p", 600, 9), Ok(("a", &["low"])));
        check(&snapshot, &sized("p", 1000, 9), Ok(("a", &["mid", "low"])));
    }

    #[test]
    fn messages() {
        let snapshot = cluster([one_core("a"), one_core("b")], [("a", sized("x", 900, 5)), ("b", sized("y", 900, 5))]);
        let short = "0/2 nodes are available: 2 Insufficient cpu.";
        let found_none = "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
        check(&snapshot, &sized("p", 500, 5), Err(&format!("{short} {found_none}")));
        let unhelpful = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
        check(&snapshot, &sized("p", 2000, 9), Err(&format!("{short} {unhelpful}")));
        let never = PodInfo { never_preempts: true, ..sized("p", 500, 9) };
        check(&snapshot, &never, Err(&format!("{short} preemption: not eligible due to preemptionPolicy=Never.")));
    }

    #[test]
    fn a_pod_waits_for_its_victims_to_leave() {
        let victim = PodInfo { terminating: true, preempted: true, ..sized("x", 900, 1) };
        let snapshot = cluster([one_core("a")], [("a", victim)]);
        let waiting = PodInfo { nominated_node: "a".into(), ..sized("p", 500, 9) };
        let text = "0/1 nodes are available: 1 Insufficient cpu. \
                    preemption: not eligible due to a terminating pod on the nominated node.";
        check(&snapshot, &waiting, Err(text));
    }

    #[test]
    fn budgets_are_respected_while_there_is_a_choice() {
        let labelled = |name: &str, app: &str| {
            let requests = json!({"requests": {"cpu": "900m"}});
            let object =
                json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"resources": requests}]}});
            pod(name, object)
        };
        let pods = [("a", labelled("guarded", "db")), ("b", PodInfo { priority: 3, ..labelled("free", "web") })];
        let mut snapshot = cluster([one_core("a"), one_core("b")], pods);
        check(&snapshot, &sized("p", 500, 9), Ok(("a", &["guarded"])));
        let selector = crate::selector::Selector::equal_to([("app", "db")]);
        let budget = Budget { selector, allowed: 0, disrupted: Box::new([]) };
        snapshot.budgets.insert(("default".into(), "db".into()), budget);
        check(&snapshot, &sized("p", 500, 9), Ok(("b", &["free"])));
    }

    #[test]
    fn anti_affinity_is_resolved_by_evicting_the_neighbour() {
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}});
        let far = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let spec = json!({"priority": 9, "affinity": far});
        let neighbour = pod("n", json!({"metadata": {"labels": {"app": "x"}}}));
        let snapshot = cluster([one_core("a")], [("a", neighbour), ("a", sized("other", 100, 0))]);
        check(&snapshot, &pod("p", json!({"spec": spec})), Ok(("a", &["n"])));
    }

    #[test]
    fn room_made_for_one_pod_is_not_taken_by_another_of_lower_priority() {
        let mut snapshot = cluster([one_core("a")], []);
        snapshot.nominate("a", Arc::new(sized("first", 800, 9)));
        check(
            &snapshot,
            &sized("p", 500, 5),
            Err("0/1 nodes are available: 1 Insufficient cpu. \
                 preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."),
        );
        let outcome = schedule(&Profile::default(), &snapshot, &sized("p", 500, 10), 0).outcome;
        assert!(matches!(outcome, Outcome::Bind(_)), "{outcome:?}");
    }
}
