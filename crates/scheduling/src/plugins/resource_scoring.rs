//! How full a node would be: shared by NodeResourcesFit and NodeResourcesBalancedAllocation.

use serde::Deserialize;

use super::ArgsError;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, Resources};

const MAX_WEIGHT: i64 = 100;

/// `resources[]` of the arguments: what is weighed, and how much.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    pub name: String,
    #[serde(default = "one")]
    pub weight: i64,
}

fn one() -> i64 {
    1
}

pub fn default_resources() -> Vec<ResourceSpec> {
    [CPU, MEMORY].map(|name| ResourceSpec { name: name.into(), weight: 1 }).into()
}

pub fn validate(resources: &[ResourceSpec]) -> Result<(), ArgsError> {
    match resources.iter().find(|r| !(1..=MAX_WEIGHT).contains(&r.weight)) {
        Some(r) => {
            Err(ArgsError::Invalid(format!("resource {:?}: weight {} is not in the range [1, 100]", r.name, r.weight)))
        }
        None => Ok(()),
    }
}

/// One resource of a node with the pod on it.
pub struct Usage {
    pub requested: i64,
    pub allocatable: i64,
    pub weight: i64,
}

/// The resources the node has, as they would be used. Extended resources the pod does not ask for are left out.
pub fn usages<'a>(
    resources: &'a [ResourceSpec],
    node: &'a NodeInfo,
    used: &'a Resources,
    wanted: &'a Resources,
) -> impl Iterator<Item = Usage> + 'a {
    resources.iter().filter_map(move |resource| {
        let name = resource.name.as_str();
        let allocatable = node.allocatable.get(name);
        let (used, wanted) = (used.get(name), wanted.get(name));
        let native = matches!(name, CPU | MEMORY | EPHEMERAL_STORAGE);
        let counts = allocatable > 0 && (native || wanted > 0);
        counts.then(|| Usage { requested: used.saturating_add(wanted), allocatable, weight: resource.weight })
    })
}

pub fn asks_for_nothing(pod: &PodInfo, resources: &[ResourceSpec]) -> bool {
    resources.iter().all(|r| pod.requests.exact.get(&r.name) == 0)
}
