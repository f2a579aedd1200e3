//! The merge facts of Kubernetes 1.36, which the generated types do not carry: one line per fact.

use std::collections::HashMap;

use crate::node::{ListType, Merge, Strategy};

const TABLE: &str = include_str!("../../data/merge-facts.tsv");

pub(super) struct Facts {
    definitions: HashMap<&'static str, HashMap<&'static str, Merge>>,
}

impl Facts {
    pub fn read() -> Self {
        let mut definitions: HashMap<_, HashMap<_, Merge>> = HashMap::new();
        for line in TABLE.lines().skip(1) {
            let columns: Vec<&'static str> = line.split('\t').collect();
            let [definition, field, fact, value] = columns[..] else {
                panic!("the table of merge facts is built in and has four columns: {line:?}")
            };
            record(definitions.entry(definition).or_default().entry(field).or_default(), fact, value);
        }
        Self { definitions }
    }

    pub fn field(&self, definition: &str, field: &str) -> Option<&Merge> {
        self.definitions.get(definition)?.get(field)
    }

    /// Whether the whole definition is atomic.
    pub fn atomic(&self, definition: &str) -> bool {
        self.field(definition, "").is_some_and(|merge| merge.map_atomic)
    }
}

fn record(merge: &mut Merge, fact: &str, value: &str) {
    match (fact, value) {
        ("list-type", "map") => merge.list = Some(ListType::Map),
        ("list-type", "set") => merge.list = Some(ListType::Set),
        ("list-type", "atomic") => merge.list = Some(ListType::Atomic),
        ("list-map-keys", keys) => merge.list_keys = keys.split(',').map(Into::into).collect(),
        ("map-type", kind) => merge.map_atomic = kind == "atomic",
        ("patch-strategy", strategies) => {
            let has = |wanted| strategies.split(',').any(|s| s == wanted);
            merge.strategy = Strategy { merge: has("merge"), replace: has("replace"), retain_keys: has("retainKeys") };
        }
        ("patch-merge-key", key) => merge.merge_key = Some(key.into()),
        _ => panic!("the table of merge facts is built in and knows no fact {fact}={value}"),
    }
}
