//! What `iptables-save` says is in the kernel, as far as it matters: our chains, and the jumps to them.

use std::collections::BTreeSet;

use crate::base::is_base_chain;
use crate::names::is_service_chain;
use crate::rules::{Change, Table};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Observed {
    pub(crate) chains: BTreeSet<(Table, String)>,
    /// (table, from, to)
    pub(crate) jumps: BTreeSet<(Table, String, String)>,
}

impl Observed {
    /// Reads the output of `iptables-save` for all tables.
    pub fn parse(save: &str) -> Self {
        let mut observed = Self::default();
        for (table, line) in lines(save) {
            if let Some(chain) = chain_of(line).filter(|chain| is_ours(chain)) {
                observed.chains.insert((table, chain.to_owned()));
            }
            if let Some((from, to)) = jump_of(line) {
                observed.jumps.insert((table, from.to_owned(), to.to_owned()));
            }
        }
        observed
    }
}

/// The restore input that removes every rule and chain of kube-proxy and nothing else.
pub fn cleanup(save: &str) -> String {
    let mut change = Change::default();
    for (table, line) in lines(save) {
        if let Some(chain) = chain_of(line).filter(|chain| is_ours(chain)) {
            change.delete(table, chain);
        }
        if jump_of(line).is_some() {
            change.line(table, line.replacen("-A ", "-D ", 1));
        }
    }
    change.to_text()
}

fn is_ours(chain: &str) -> bool {
    is_base_chain(chain) || is_service_chain(chain)
}

fn lines(save: &str) -> impl Iterator<Item = (Table, &str)> {
    let mut table = None;
    save.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL.into_iter().find(|table| table.as_str() == name.trim());
        }
        Some((table?, line))
    })
}

fn chain_of(line: &str) -> Option<&str> {
    line.strip_prefix(':')?.split_whitespace().next()
}

/// A jump from a chain that is not ours to one that is.
fn jump_of(line: &str) -> Option<(&str, &str)> {
    let (from, rule) = line.strip_prefix("-A ")?.split_once(' ')?;
    let to = rule.rsplit_once("-j ").map(|(_, target)| target.trim())?;
    (!is_ours(from) && is_ours(to)).then_some((from, to))
}
