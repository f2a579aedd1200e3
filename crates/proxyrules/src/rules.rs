//! A rule set as text per chain, and the restore input that turns one rule set into another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Filter,
    Mangle,
    Nat,
}

impl Table {
    pub const ALL: [Self; 3] = [Self::Filter, Self::Mangle, Self::Nat];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
        }
    }
}

/// Chains by table and name; a chain's body is its complete lines (`-A CHAIN ...\n`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    chains: BTreeMap<(Table, String), String>,
}

impl RuleSet {
    /// Tells whether that changed anything.
    pub(crate) fn set(&mut self, table: Table, chain: &str, body: String) -> bool {
        let old = self.chains.insert((table, chain.to_owned()), body);
        old.as_deref() != self.get(table, chain)
    }

    /// Tells whether it was there.
    pub(crate) fn remove(&mut self, table: Table, chain: &str) -> bool {
        self.chains.remove(&(table, chain.to_owned())).is_some()
    }

    pub fn get(&self, table: Table, chain: &str) -> Option<&str> {
        self.chains.get(&(table, chain.to_owned())).map(String::as_str)
    }

    pub fn chains(&self) -> impl Iterator<Item = (Table, &str)> {
        self.chains.keys().map(|(table, chain)| (*table, chain.as_str()))
    }

    /// Number of rules in a table.
    pub fn rules(&self, table: Table) -> usize {
        self.chains.iter().filter(|((of, _), _)| *of == table).map(|(_, body)| body.lines().count()).sum()
    }

    /// The whole set, as text.
    pub fn to_text(&self) -> String {
        let mut change = Change::default();
        self.chains.iter().for_each(|((table, chain), body)| change.write(*table, chain, body));
        change.to_text()
    }
}

/// Chains to write and to delete, collected before they are put in the order `iptables-restore` needs.
#[derive(Debug, Default)]
pub(crate) struct Change<'a> {
    tables: BTreeMap<Table, TableChange<'a>>,
}

#[derive(Debug, Default)]
struct TableChange<'a> {
    written: BTreeMap<&'a str, &'a str>,
    deleted: BTreeSet<&'a str>,
    extra: Vec<String>,
}

impl<'a> Change<'a> {
    pub fn write(&mut self, table: Table, chain: &'a str, body: &'a str) {
        self.tables.entry(table).or_default().written.insert(chain, body);
    }

    pub fn delete(&mut self, table: Table, chain: &'a str) {
        self.tables.entry(table).or_default().deleted.insert(chain);
    }

    /// A line for a chain that is not ours, such as a jump from FORWARD.
    pub fn line(&mut self, table: Table, line: String) {
        self.tables.entry(table).or_default().extra.push(line);
    }

    /// With `--noflush`, naming a chain creates or flushes it; so all names come first, then rules, which may jump to
    /// any of them, and deletions last, when no rule refers to the deleted chain any more.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (table, change) in &self.tables {
            let _ = writeln!(text, "*{}", table.as_str());
            for chain in change.written.keys().chain(&change.deleted) {
                let _ = writeln!(text, ":{chain} - [0:0]");
            }
            change.extra.iter().for_each(|line| text.extend([line, "\n"]));
            change.written.values().for_each(|body| text.push_str(body));
            for chain in &change.deleted {
                let _ = writeln!(text, "-X {chain}");
            }
            text.push_str("COMMIT\n");
        }
        text
    }
}
