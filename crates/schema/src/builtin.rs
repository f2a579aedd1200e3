//! The model of the built-in kinds: structure and descriptions from the generated types, merge facts from a table.

mod facts;
mod kinds;
mod read;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use crate::node::{Definition, Gvk, Node};

/// Every type of the API, found by kind or by definition name.
#[derive(Debug)]
pub struct Schemas {
    definitions: BTreeMap<Arc<str>, Arc<Definition>>,
    /// A node that refers to the definition, so that error texts know its name.
    kinds: HashMap<Gvk, Node>,
}

impl Schemas {
    /// The built-in model; built on first use, then shared.
    pub fn builtin() -> Arc<Self> {
        static MODEL: OnceLock<Arc<Schemas>> = OnceLock::new();
        MODEL.get_or_init(|| Arc::new(read::read(kinds::all()))).clone()
    }

    pub(crate) fn new(definitions: BTreeMap<Arc<str>, Arc<Definition>>) -> Self {
        let mut kinds = HashMap::new();
        for definition in definitions.values() {
            for gvk in &definition.gvks {
                let node = Node { shape: crate::node::Shape::Ref(definition.clone()), description: None };
                kinds.insert(gvk.clone(), node);
            }
        }
        Self { definitions, kinds }
    }

    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Node> {
        self.kinds.get(&Gvk::new(group, version, kind))
    }

    pub fn get(&self, gvk: &Gvk) -> Option<&Node> {
        self.kinds.get(gvk)
    }

    /// By name: `io.k8s.api.apps.v1.Deployment`.
    pub fn definition(&self, name: &str) -> Option<&Arc<Definition>> {
        self.definitions.get(name)
    }

    pub fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.definitions.values()
    }
}

#[cfg(test)]
mod tests;
