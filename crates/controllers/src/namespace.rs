//! The end of a namespace: what its deletion has found so far, told in its conditions, and its release.
//!
//! Deleting the content needs discovery and is the shell's work; this file judges the findings.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};

use crate::meta::{Meta, time};
use crate::plan::{Op, Plan};

const FINALIZER: &str = "kubernetes";

/// What one round of deleting found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    pub discovery_error: Option<String>,
    pub delete_error: Option<String>,
    /// Remaining objects per `plural.group`.
    pub remaining: BTreeMap<String, usize>,
    /// Remaining objects per finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Findings {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub fn needs_finalizing(namespace: &Namespace) -> bool {
    namespace.deleting()
        && namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|name| name == FINALIZER)
}

/// Shows the findings; with none, lets the namespace go.
pub fn plan(namespace: &Namespace, findings: &Findings, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut copy = namespace.clone();
    let status = copy.status.get_or_insert_default();
    status.phase = Some("Terminating".into());
    let conditions = status.conditions.get_or_insert_default();
    for (kind, ok, trouble) in verdicts(findings) {
        set(conditions, kind, ok, trouble, now);
    }
    if findings.is_empty() {
        let spec = copy.spec.get_or_insert_default();
        spec.finalizers.get_or_insert_default().retain(|name| name != FINALIZER);
        plan.push(Op::update_sub(&copy, "finalize"));
    } else if copy.status != namespace.status {
        plan.push(Op::update_status(&copy));
    }
    plan
}

type Said = (&'static str, String);

/// Per condition: what to say when all is well, and what is wrong.
fn verdicts(findings: &Findings) -> [(&'static str, (&'static str, &'static str), Option<Said>); 5] {
    let remaining = describe(&findings.remaining, |kind, count| format!("{kind} has {count} resource instances"));
    let held = describe(&findings.finalizers, |name, count| format!("{name} in {count} resource instances"));
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            ("ResourcesDiscovered", "All resources successfully discovered"),
            findings.discovery_error.clone().map(|error| ("DiscoveryFailed", error)),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            None,
        ),
        (
            "NamespaceDeletionContentFailure",
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            findings.delete_error.clone().map(|error| ("ContentDeletionFailed", error)),
        ),
        (
            "NamespaceContentRemaining",
            ("ContentRemoved", "All content successfully removed"),
            remaining.map(|text| ("SomeResourcesRemain", format!("Some resources are remaining: {text}"))),
        ),
        (
            "NamespaceFinalizersRemaining",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            held.map(|text| {
                ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {text}"))
            }),
        ),
    ]
}

fn describe(counts: &BTreeMap<String, usize>, say: impl Fn(&str, usize) -> String) -> Option<String> {
    let parts: Vec<String> = counts.iter().map(|(name, count)| say(name, *count)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn set(
    conditions: &mut Vec<NamespaceCondition>,
    kind: &str,
    ok: (&'static str, &'static str),
    trouble: Option<Said>,
    now: jiff::Timestamp,
) {
    let (status, reason, message) = match trouble {
        Some((reason, message)) => ("True", reason, message),
        None => ("False", ok.0, ok.1.to_owned()),
    };
    let old = conditions.iter_mut().find(|condition| condition.type_ == kind);
    let since = old.as_ref().filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    let condition = NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(since.unwrap_or_else(|| time(now))),
    };
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}
