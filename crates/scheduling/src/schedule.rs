//! One scheduling cycle: filter, score, select; or say why not and whether evicting would help.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::diagnosis::Diagnosis;
use crate::framework::{Cycle, Filter, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::snapshot::Snapshot;

/// Below this many nodes all are looked at; above, the search stops at a share of them.
const MIN_FEASIBLE_NODES: usize = 100;
const MIN_FEASIBLE_PERCENTAGE: usize = 5;

/// What to do with a pod.
#[derive(Debug)]
pub struct Decision {
    pub outcome: Outcome,
    pub evaluated: usize,
    pub feasible: usize,
}

#[derive(Debug)]
pub enum Outcome {
    Bind(Arc<str>),
    /// No node fits; the pod waits, perhaps for victims to leave.
    Unfit(Diagnosis, PostFilter),
    /// There is no node at all.
    NoNodes,
}

/// What preemption came to.
#[derive(Clone, Debug, Default)]
pub struct PostFilter {
    /// Upstream's words, appended to the diagnosis.
    pub message: String,
    pub nomination: Nomination,
    pub victims: Vec<Arc<PodInfo>>,
    /// Whether preemption was tried at all, for the metric.
    pub attempted: bool,
}

/// What becomes of `status.nominatedNodeName`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nomination {
    #[default]
    Keep,
    Clear,
    Set(Arc<str>),
}

impl Outcome {
    /// The text of the FailedScheduling event and the PodScheduled condition.
    pub fn message(&self) -> Option<String> {
        match self {
            Outcome::Bind(_) => None,
            Outcome::NoNodes => Some("no nodes available to schedule pods".into()),
            Outcome::Unfit(diagnosis, post_filter) if post_filter.message.is_empty() => Some(diagnosis.message()),
            Outcome::Unfit(diagnosis, post_filter) => Some(format!("{} {}", diagnosis.message(), post_filter.message)),
        }
    }
}

/// A cycle in progress: the filters know the pod, and `diagnosis` grows with every node turned down.
pub struct Attempt<'a> {
    pub cycle: Cycle<'a>,
    pub seed: u64,
    pub diagnosis: Diagnosis,
    filters: Vec<(&'static str, Box<dyn Filter + 'a>)>,
}

type Verdict = Result<(), (&'static str, Rejection)>;

impl<'a> Attempt<'a> {
    /// Whether the pod fits on `node`, also once the pods nominated to it have come.
    pub fn fits(&mut self, node: &NodeInfo) -> Verdict {
        let Cycle { snapshot, pod } = self.cycle;
        let expected = |p: &&Arc<PodInfo>| p.priority >= pod.priority && p.uid != pod.uid;
        let nominated: Vec<_> = snapshot.nominated(&node.name).iter().filter(expected).cloned().collect();
        if !nominated.is_empty() {
            let mut crowded = node.clone();
            nominated.iter().for_each(|p| self.add_pod(p.clone(), &mut crowded));
            let verdict = self.check(&crowded);
            nominated.iter().for_each(|p| self.remove_pod(p, &mut crowded));
            verdict?;
        }
        self.check(node)
    }

    fn check(&self, node: &NodeInfo) -> Verdict {
        self.filters.iter().try_for_each(|(name, filter)| filter.filter(node).map_err(|rejection| (*name, rejection)))
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>, node: &mut NodeInfo) {
        self.filters.iter_mut().for_each(|(_, filter)| filter.add_pod(&pod, node));
        node.add_pod(pod);
    }

    pub fn remove_pod(&mut self, pod: &PodInfo, node: &mut NodeInfo) {
        self.filters.iter_mut().for_each(|(_, filter)| filter.remove_pod(pod, node));
        node.remove_pod(&pod.uid);
    }
}

/// Decides for one pod. The same arguments always give the same decision.
pub fn schedule(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo, seed: u64) -> Decision {
    if snapshot.nodes().is_empty() {
        return Decision { outcome: Outcome::NoNodes, evaluated: 0, feasible: 0 };
    }
    let cycle = Cycle { snapshot, pod };
    let diagnosis = Diagnosis { all_nodes: snapshot.nodes().len(), ..Diagnosis::default() };
    let mut attempt = Attempt { cycle, seed, diagnosis, filters: Vec::new() };
    let feasible = match pre_filter(profile, &mut attempt) {
        Ok(candidates) => find_feasible(profile, &mut attempt, candidates),
        Err((plugin, rejection)) => {
            attempt.diagnosis.plugins.insert(plugin);
            attempt.diagnosis.absent = Some(rejection.clone());
            attempt.diagnosis.pre_filter = Some(rejection);
            Vec::new()
        }
    };
    let evaluated = feasible.len() + attempt.diagnosis.nodes.len();
    let outcome = match feasible.as_slice() {
        [] => {
            let post_filter = profile.post_filters().find_map(|plugin| plugin.post_filter(&mut attempt));
            Outcome::Unfit(attempt.diagnosis, post_filter.unwrap_or_default())
        }
        [only] => Outcome::Bind(only.name.clone()),
        several => Outcome::Bind(select(several, &total_scores(profile, cycle, several), seed)),
    };
    Decision { outcome, evaluated, feasible: feasible.len() }
}

/// Lets every filtering plugin look at the pod; the answer is the nodes worth looking at.
fn pre_filter<'a>(
    profile: &'a Profile,
    attempt: &mut Attempt<'a>,
) -> Result<Vec<&'a NodeInfo>, (&'static str, Rejection)> {
    let Cycle { snapshot, .. } = attempt.cycle;
    let mut only: Option<(BTreeSet<&str>, Vec<&'static str>)> = None;
    for plugin in profile.filters() {
        match plugin.pre_filter(attempt.cycle) {
            PreFilter::Skip => {}
            PreFilter::Check(filter) => attempt.filters.push((plugin.name(), filter)),
            PreFilter::Only(names, filter) => {
                attempt.filters.push((plugin.name(), filter));
                only = Some(match only {
                    None => (names, vec![plugin.name()]),
                    Some((before, mut by)) => {
                        by.push(plugin.name());
                        (before.intersection(&names).copied().collect(), by)
                    }
                });
            }
            PreFilter::Reject(rejection) => return Err((plugin.name(), rejection)),
        }
    }
    let Some((names, by)) = only else { return Ok(snapshot.in_order().map(|n| &**n).collect()) };
    let reason = format!("node(s) didn't satisfy plugin(s) [{}]", by.join(" "));
    attempt.diagnosis.absent = Some(Rejection::unresolvable(reason));
    attempt.diagnosis.plugins.extend(by);
    Ok(names.iter().filter_map(|name| snapshot.node(name)).map(|n| &**n).collect())
}

fn find_feasible<'a>(profile: &Profile, attempt: &mut Attempt<'_>, candidates: Vec<&'a NodeInfo>) -> Vec<&'a NodeInfo> {
    let nominated = &attempt.cycle.pod.nominated_node;
    if let Some(node) = candidates.iter().find(|n| !nominated.is_empty() && *n.name == **nominated)
        && attempt.fits(node).is_ok()
    {
        return vec![node];
    }
    let wanted = wanted_nodes(profile.percentage_of_nodes_to_score, candidates.len());
    let start = if candidates.is_empty() { 0 } else { mix(attempt.seed) as usize % candidates.len() };
    let mut feasible = Vec::new();
    for node in candidates[start..].iter().chain(&candidates[..start]) {
        match attempt.fits(node) {
            Ok(()) => feasible.push(*node),
            Err((plugin, rejection)) => attempt.diagnosis.reject(node.name.clone(), plugin, rejection),
        }
        if feasible.len() == wanted {
            break;
        }
    }
    feasible
}

/// How many feasible nodes end the search: of many nodes, a share that shrinks as the cluster grows.
fn wanted_nodes(percentage: Option<u8>, nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE_NODES {
        return nodes.max(1);
    }
    let percentage = match percentage.unwrap_or(0) {
        0 => 50usize.saturating_sub(nodes / 125).max(MIN_FEASIBLE_PERCENTAGE),
        given => usize::from(given),
    };
    (nodes * percentage / 100).max(MIN_FEASIBLE_NODES)
}

/// The weighted sum of every scoring plugin's opinion, node by node.
pub fn total_scores(profile: &Profile, cycle: Cycle<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    for (plugin, weight) in profile.scores() {
        let Some(scorer) = plugin.pre_score(cycle, nodes) else { continue };
        let mut scores: Vec<i64> = nodes.iter().map(|n| scorer.score(n)).collect();
        scorer.normalize(nodes, &mut scores);
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score * weight);
    }
    totals
}

/// The best node; among equals the seed decides.
fn select(nodes: &[&NodeInfo], totals: &[i64], seed: u64) -> Arc<str> {
    let best = totals.iter().copied().max().expect("there are several nodes");
    let equals: Vec<usize> = (0..nodes.len()).filter(|i| totals[*i] == best).collect();
    nodes[equals[mix(!seed) as usize % equals.len()]].name.clone()
}

/// Spreads consecutive seeds over the whole range (SplitMix64's finalizer).
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
