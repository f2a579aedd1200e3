//! The model of the built-in kinds: structure and descriptions from the generated types, merge facts from a table.

mod facts;
mod kinds;
mod read;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::node::{Definition, Gvk, Node, Shape};

/// Every type of the API, found by kind or by definition name.
#[derive(Debug)]
pub struct Schemas {
    definitions: BTreeMap<Arc<str>, Arc<Definition>>,
    /// Sorted by kind; each node refers to the definition, so that error texts know its name.
    kinds: Vec<(Gvk, Node)>,
}

impl Schemas {
    /// The built-in model; built on first use, then shared.
    pub fn builtin() -> Arc<Self> {
        static MODEL: OnceLock<Arc<Schemas>> = OnceLock::new();
        MODEL.get_or_init(|| Arc::new(read::read(kinds::all()))).clone()
    }

    pub(crate) fn new(definitions: BTreeMap<Arc<str>, Arc<Definition>>) -> Self {
        let mut kinds: Vec<(Gvk, Node)> = Vec::new();
        for definition in definitions.values() {
            let node = Node { shape: Shape::Ref(definition.clone()), description: None };
            kinds.extend(definition.gvks.iter().map(|gvk| (gvk.clone(), node.clone())));
        }
        kinds.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { definitions, kinds }
    }

    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Node> {
        let wanted = (group, version, kind);
        let at = self.kinds.binary_search_by(|(gvk, _)| (&*gvk.group, &*gvk.version, &*gvk.kind).cmp(&wanted)).ok()?;
        Some(&self.kinds[at].1)
    }

    pub fn get(&self, gvk: &Gvk) -> Option<&Node> {
        self.kind(&gvk.group, &gvk.version, &gvk.kind)
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
