//! Why no node fits, in upstream's words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::framework::Rejection;

/// What every plugin had against the nodes it saw.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    pub all_nodes: usize,
    /// The plugin that turned the pod down before any node was looked at.
    pub pre_filter: Option<Rejection>,
    pub nodes: Vec<NodeDiagnosis>,
    /// What holds for the nodes that were left out without a look.
    pub absent: Option<Rejection>,
    /// Whose hints decide when the pod is tried again.
    pub plugins: BTreeSet<&'static str>,
}

#[derive(Clone, Debug)]
pub struct NodeDiagnosis {
    pub node: Arc<str>,
    pub plugin: &'static str,
    pub rejection: Rejection,
}

impl Diagnosis {
    /// `0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.`
    pub fn message(&self) -> String {
        let mut text = format!("0/{} nodes are available:", self.all_nodes);
        match &self.pre_filter {
            Some(rejection) => text += &format!(" {rejection}."),
            None => {
                let lines = self.histogram();
                if !lines.is_empty() {
                    text += &format!(" {}.", lines.join(", "));
                }
            }
        }
        text
    }

    /// Lines such as `2 Insufficient cpu`, ordered as text, like upstream's.
    fn histogram(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.nodes.iter().flat_map(|n| &n.rejection.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let unseen = self.all_nodes.saturating_sub(self.nodes.len());
        for reason in self.absent.iter().flat_map(|r| &r.reasons).filter(|_| unseen > 0) {
            *counts.entry(reason).or_default() += unseen;
        }
        let mut lines: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        lines.sort();
        lines
    }

    /// What was held against a node; `None` when it was not looked at.
    pub fn of(&self, node: &str) -> Option<&NodeDiagnosis> {
        self.nodes.iter().find(|n| &*n.node == node)
    }

    pub fn reject(&mut self, node: Arc<str>, plugin: &'static str, rejection: Rejection) {
        self.plugins.insert(plugin);
        self.nodes.push(NodeDiagnosis { node, plugin, rejection });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(diagnosis: Diagnosis, expected: &str) {
        assert_eq!(diagnosis.message(), expected);
    }

    fn nodes(reasons: &[&'static [&'static str]]) -> Diagnosis {
        let mut diagnosis = Diagnosis { all_nodes: reasons.len(), ..Diagnosis::default() };
        for (i, reasons) in reasons.iter().enumerate() {
            let reasons = reasons.iter().map(|r| (*r).into()).collect();
            diagnosis.reject(format!("n{i}").into(), "P", Rejection { reasons, resolvable: true });
        }
        diagnosis
    }

    #[test]
    fn messages() {
        check(
            nodes(&[&["Insufficient cpu"], &["node(s) had untolerated taint(s)"], &["Insufficient cpu"]]),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.",
        );
        check(
            nodes(&[&["Insufficient cpu", "Insufficient memory"], &["Insufficient memory"]]),
            "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.",
        );
        let mut some = nodes(&[&["Insufficient cpu"]]);
        some.all_nodes = 3;
        some.absent = Some(Rejection::unresolvable("node(s) didn't satisfy plugin(s) [NodeAffinity]"));
        check(some, "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].");
        let pre_filter = Some(Rejection::unresolvable("pod affinity terms conflict"));
        check(
            Diagnosis { all_nodes: 3, pre_filter, ..Diagnosis::default() },
            "0/3 nodes are available: pod affinity terms conflict.",
        );
    }
}
