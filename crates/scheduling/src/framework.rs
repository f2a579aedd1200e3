//! The extension points, as types.
//!
//! A plugin looks at a pod and the cluster once per cycle and answers with an object that holds what it worked
//! out; that object then judges nodes. There is no shared scratch state: what a `Filter` knows, it owns.
//! A plugin that has nothing to say about a pod says so up front and costs nothing per node.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use crate::event::Event;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::schedule::{Attempt, PostFilter};
use crate::snapshot::Snapshot;

/// Scores, once normalized, lie between zero and this.
pub const MAX_NODE_SCORE: i64 = 100;

/// What a scheduling cycle is about.
#[derive(Clone, Copy)]
pub struct Cycle<'a> {
    pub snapshot: &'a Snapshot,
    pub pod: &'a PodInfo,
}

/// Why a plugin turned a pod or a node down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether evicting pods might help: only then is the node considered for preemption.
    pub resolvable: bool,
}

impl Rejection {
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: vec![reason.into()], resolvable: true }
    }

    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: vec![reason.into()], resolvable: false }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join(", "))
    }
}

/// A plugin's first look at a pod.
pub enum PreFilter<'a> {
    /// The pod asks for nothing this plugin watches over.
    Skip,
    /// Every node must be checked.
    Check(Box<dyn Filter + 'a>),
    /// Only these nodes can do, and they must be checked too.
    Only(BTreeSet<&'a str>, Box<dyn Filter + 'a>),
    /// No node can do.
    Reject(Rejection),
}

/// Judges nodes for one pod.
pub trait Filter: Send + Sync {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;

    /// Supposes that `pod` also ran on `node`. Undone exactly by [`Filter::remove_pod`].
    fn add_pod(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}

    /// Supposes that `pod` were gone from `node`.
    fn remove_pod(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}
}

/// Ranks feasible nodes for one pod.
pub trait Score: Send + Sync {
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the raw scores of all feasible nodes into 0..=[`MAX_NODE_SCORE`].
    fn normalize(&self, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}
}

/// One scheduling rule. Every method has the answer of a plugin that does not care.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether the pod may enter the active queue at all.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), Rejection> {
        Ok(())
    }

    fn pre_filter<'a>(&'a self, _cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Skip
    }

    fn pre_score<'a>(&'a self, _cycle: Cycle<'a>, _feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        None
    }

    /// Called when no node fits; may find a way to make one fit.
    fn post_filter(&self, _attempt: &mut Attempt<'_>) -> Option<PostFilter> {
        None
    }

    /// Whether `event` may make schedulable a pod that this plugin turned down.
    fn hint(&self, _pod: &PodInfo, _event: Event<'_>) -> bool {
        true
    }
}

/// Scales so that the highest becomes [`MAX_NODE_SCORE`]; reversed, the lowest is best.
pub fn normalize_to_max(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if max == 0 { 0 } else { *score * MAX_NODE_SCORE / max };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}
