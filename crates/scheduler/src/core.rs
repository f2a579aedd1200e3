//! The scheduler without its sockets: what is known of the cluster, who waits, and what to do next.
//!
//! Changes come in through the `*_changed` methods; [`Core::step`] decides for one pod and returns what must be
//! written to the API server. A pod given a node is *assumed* there at once, so that the next decision counts it;
//! the assumption ends when the pod is seen bound, when binding fails, or when it expires.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduling::schedule::{Nomination, PostFilter};
use scheduling::{Decision, Diagnosis, Event, NodeInfo, Outcome, PodInfo, Profile, Snapshot, schedule};

use crate::metrics::Metrics;
use crate::queue::{Backoff, Failure, Place, Queue, Taken};

/// A bound pod that the watch has not shown after this long is no longer counted on: the watch is right.
const ASSUMPTION_LIFETIME: Duration = Duration::from_secs(120);

/// What to write.
#[derive(Debug)]
pub enum Effect {
    Bind(Binding),
    Report(Report),
}

#[derive(Clone, Debug)]
pub struct Binding {
    pub pod: Arc<PodInfo>,
    pub node: Arc<str>,
    pub taken: Taken,
    pub started: Instant,
}

/// A pod without a node: its condition, its event, and the victims that are to make room.
#[derive(Debug)]
pub struct Report {
    pub pod: Arc<PodInfo>,
    pub reason: &'static str,
    pub message: String,
    pub nomination: Nomination,
    pub victims: Vec<Arc<PodInfo>>,
    /// Pods of lower priority that had been promised the same node.
    pub demoted: Vec<Arc<PodInfo>>,
}

struct Placement {
    node: Box<str>,
    pod: Arc<PodInfo>,
    /// Not yet confirmed by the watch.
    assumed: bool,
}

pub struct Core {
    pub snapshot: Snapshot,
    pub queue: Queue,
    profiles: Vec<Profile>,
    placements: HashMap<Box<str>, Placement>,
    /// Assumptions whose binding was acknowledged, in the order they expire.
    expiring: std::collections::VecDeque<(Instant, Box<str>)>,
    nominations: HashMap<Box<str>, Box<str>>,
    seed: u64,
    metrics: Metrics,
}

impl Core {
    pub fn new(profiles: Vec<Profile>, backoff: Backoff, seed: u64, metrics: Metrics) -> Self {
        let queue = Queue::new(backoff);
        metrics.queue(&queue);
        Core {
            snapshot: Snapshot::default(),
            queue,
            profiles,
            placements: HashMap::new(),
            expiring: std::collections::VecDeque::new(),
            nominations: HashMap::new(),
            seed,
            metrics,
        }
    }

    fn profile(&self, pod: &PodInfo) -> Option<&Profile> {
        self.profiles.iter().find(|p| p.scheduler_name == pod.scheduler_name)
    }

    /// Decides for the next pod, if one is waiting.
    pub fn step(&mut self, now: Instant) -> Option<Effect> {
        self.expire(now);
        self.queue.tick(now);
        let taken = self.queue.pop(now)?;
        let pod = taken.pod.clone();
        let profile = self.profile(&pod).expect("only pods with a profile are queued");
        let seed = self.seed;
        let started = Instant::now();
        let decision = schedule(profile, &self.snapshot, &pod, seed);
        self.metrics.algorithm(started.elapsed());
        let Decision { evaluated, feasible, .. } = decision;
        tracing::debug!(pod = pod.key(), seed, evaluated, feasible, outcome = ?decision.outcome, "decided");
        self.seed = seed.wrapping_add(1);
        let effect = match &decision.outcome {
            Outcome::Bind(node) => {
                let (node, taken) = (node.clone(), taken);
                self.assume(&node, &pod);
                Effect::Bind(Binding { pod, node, taken, started })
            }
            _ => {
                self.metrics.attempt("unschedulable", &pod.scheduler_name, started.elapsed());
                Effect::Report(self.turn_down(pod, decision.outcome, now))
            }
        };
        self.metrics.queue(&self.queue);
        Some(effect)
    }

    fn assume(&mut self, node: &str, pod: &Arc<PodInfo>) {
        self.denominate(&pod.uid);
        self.snapshot.add_pod(node, pod.clone());
        let placement = Placement { node: node.into(), pod: pod.clone(), assumed: true };
        self.placements.insert(pod.uid.clone(), placement);
    }

    fn turn_down(&mut self, pod: Arc<PodInfo>, outcome: Outcome, now: Instant) -> Report {
        let message = outcome.message().expect("only a failure is turned down");
        let (diagnosis, post) = match outcome {
            Outcome::Unfit(diagnosis, post) => (diagnosis, post),
            _ => (Diagnosis::default(), PostFilter::default()),
        };
        if post.attempted {
            self.metrics.preemption(post.victims.len());
        }
        self.queue.fail(&pod.uid, Failure::Unschedulable(diagnosis.plugins.into_iter().collect()), now);
        let demoted = self.nominate(&pod, &post.nomination);
        let PostFilter { nomination, victims, .. } = post;
        Report { pod, reason: "Unschedulable", message, nomination, victims, demoted }
    }

    /// Notes whom a node is promised to; whoever was promised it at a lower priority has to look again.
    fn nominate(&mut self, pod: &Arc<PodInfo>, nomination: &Nomination) -> Vec<Arc<PodInfo>> {
        match nomination {
            Nomination::Keep => Vec::new(),
            Nomination::Clear => {
                self.denominate(&pod.uid);
                Vec::new()
            }
            Nomination::Set(node) => {
                self.denominate(&pod.uid);
                let lower = |p: &&Arc<PodInfo>| p.priority < pod.priority;
                let demoted: Vec<_> = self.snapshot.nominated(node).iter().filter(lower).cloned().collect();
                demoted.iter().for_each(|p| self.denominate(&p.uid));
                self.promise(node, pod);
                demoted
            }
        }
    }

    fn promise(&mut self, node: &str, pod: &Arc<PodInfo>) {
        self.snapshot.nominate(node, pod.clone());
        self.nominations.insert(pod.uid.clone(), node.into());
    }

    fn denominate(&mut self, uid: &str) {
        if let Some(node) = self.nominations.remove(uid) {
            self.snapshot.remove_nomination(&node, uid);
        }
    }

    /// The API server took the binding; from now on the assumption can expire.
    pub fn bound(&mut self, binding: &Binding, now: Instant) {
        let elapsed = binding.started.elapsed();
        self.metrics.attempt("scheduled", &binding.pod.scheduler_name, elapsed);
        self.metrics.scheduled(&binding.taken, now);
        self.queue.remove(&binding.pod.uid);
        if self.placements.get(&binding.pod.uid).is_some_and(|p| p.assumed) {
            self.expiring.push_back((now + ASSUMPTION_LIFETIME, binding.pod.uid.clone()));
        }
        self.metrics.queue(&self.queue);
    }

    /// Binding failed: the pod gives its place back and is tried again later. What it held may help others.
    pub fn not_bound(&mut self, binding: &Binding, gone: bool, now: Instant) {
        self.metrics.attempt("error", &binding.pod.scheduler_name, binding.started.elapsed());
        let uid = &binding.pod.uid;
        if self.placements.get(uid).is_some_and(|p| p.assumed) {
            self.unplace(uid);
        }
        if gone {
            self.queue.remove(uid);
        } else {
            self.queue.fail(uid, Failure::Error, now);
        }
        self.wake(Event::AssignedPodDeleted(&binding.pod), now);
    }

    fn unplace(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let placement = self.placements.remove(uid)?;
        self.snapshot.remove_pod(&placement.node, uid)
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, uid)) = self.expiring.front().cloned()
            && at <= now
        {
            self.expiring.pop_front();
            if self.placements.get(&uid).is_some_and(|p| p.assumed) {
                tracing::warn!(%uid, "a bound pod was never seen; no longer counted");
                self.unplace(&uid);
            }
        }
    }

    /// When something is due even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let expiry = self.expiring.front().map(|(at, _)| *at);
        self.queue.deadline().into_iter().chain(expiry).min()
    }

    fn wake(&mut self, event: Event<'_>, now: Instant) {
        let profiles = &self.profiles;
        let places = self.queue.wake(now, |pod, plugins| {
            let profile = profiles.iter().find(|p| p.scheduler_name == pod.scheduler_name);
            plugins.is_empty() || profile.is_some_and(|p| p.hint(plugins.iter().copied(), pod, event))
        });
        self.metrics.woken(event.name(), &places);
        self.metrics.queue(&self.queue);
    }

    pub fn pod_changed(&mut self, pod: Arc<PodInfo>, now: Instant) {
        if pod.finished {
            return self.pod_deleted(&pod, now);
        }
        if pod.node_name.is_empty() { self.pod_waits(pod, now) } else { self.pod_assigned(pod, now) }
    }

    fn pod_waits(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let assumed = self.placements.contains_key(&pod.uid);
        if self.profile(&pod).is_none() || assumed {
            return;
        }
        if pod.terminating {
            self.denominate(&pod.uid);
            self.queue.remove(&pod.uid);
            self.metrics.queue(&self.queue);
            return;
        }
        if !pod.nominated_node.is_empty() && !self.nominations.contains_key(&pod.uid) {
            self.promise(&pod.nominated_node, &pod);
        }
        let gated = self.profile(&pod).is_some_and(|profile| profile.gate(&pod).is_some());
        let event = if self.queue.get(&pod.uid).is_some() { "UnschedulablePodUpdate" } else { "UnscheduledPodAdd" };
        if let Some(place) = self.queue.put(pod, gated, now) {
            self.metrics.woken(event, &[place]);
        }
        self.metrics.queue(&self.queue);
    }

    fn pod_assigned(&mut self, pod: Arc<PodInfo>, now: Instant) {
        self.denominate(&pod.uid);
        self.queue.remove(&pod.uid);
        let before = self.placements.get(&pod.uid).map(|p| (p.pod.clone(), p.assumed));
        self.unplace(&pod.uid);
        self.snapshot.add_pod(&pod.node_name, pod.clone());
        let placement = Placement { node: pod.node_name.clone(), pod: pod.clone(), assumed: false };
        self.placements.insert(pod.uid.clone(), placement);
        match before {
            Some((old, false)) => self.wake(Event::AssignedPodUpdated { old: &old, new: &pod }, now),
            _ => self.wake(Event::AssignedPodAdded(&pod), now),
        }
    }

    pub fn pod_deleted(&mut self, pod: &PodInfo, now: Instant) {
        self.denominate(&pod.uid);
        self.queue.remove(&pod.uid);
        match self.unplace(&pod.uid) {
            Some(placed) => self.wake(Event::AssignedPodDeleted(&placed), now),
            None => self.metrics.queue(&self.queue),
        }
    }

    pub fn node_changed(&mut self, node: &NodeInfo, now: Instant) {
        let old = self.snapshot.node(&node.name).cloned();
        if old.as_ref().is_some_and(|old| old.same_description(node)) {
            return;
        }
        self.snapshot.set_node(node.clone());
        match old {
            Some(old) => self.wake(Event::NodeUpdated { old: &old, new: node }, now),
            None => self.wake(Event::NodeAdded(node), now),
        }
    }

    pub fn node_deleted(&mut self, name: &str) {
        self.snapshot.remove_node(name);
    }

    pub fn namespace_changed(&mut self, name: &str, labels: &scheduling::labels::Labels, now: Instant) {
        let old = self.snapshot.namespaces.insert(name.into(), labels.clone());
        if old.as_ref() != Some(labels) {
            self.wake(Event::NamespaceLabelled { name, labels }, now);
        }
    }

    /// Nodes, placed pods, and pods assumed but not yet seen bound.
    pub fn cache_sizes(&self) -> (usize, usize, usize) {
        let assumed = self.placements.values().filter(|p| p.assumed).count();
        (self.snapshot.nodes().len(), self.placements.len(), assumed)
    }

    /// How many pods wait unscheduled, by plugin and profile.
    pub fn unschedulable(&self) -> HashMap<(&'static str, Box<str>), i64> {
        let mut counts = HashMap::new();
        for (pod, plugins) in self.queue.unschedulable_plugins() {
            for plugin in plugins {
                *counts.entry((*plugin, pod.scheduler_name.clone())).or_default() += 1;
            }
        }
        counts
    }

    pub fn waiting(&self, place: Place) -> usize {
        self.queue.count(place)
    }
}

#[cfg(test)]
mod tests;
