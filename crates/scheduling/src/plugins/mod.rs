//! The table of plugins. Adding one is a file here and a row below.

mod default_preemption;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod pod_topology_spread;
mod resource_scoring;
mod scheduling_gates;
mod taint_toleration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::framework::Plugin;
use crate::profile::Point;

/// One plugin: its points, its default weight, and how it is built from its arguments.
pub struct Row {
    pub name: &'static str,
    pub points: &'static [Point],
    pub weight: i64,
    build: fn(&Value) -> Result<Box<dyn Plugin>, ArgsError>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error("arguments: {0}")]
    Parse(#[from] serde_json::Error),
    #[error("{0}")]
    Invalid(String),
}

use Point::{Filter, PostFilter, PreEnqueue, Score};

/// In the order they run. Cheap filters that turn down many nodes come first.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    Row { name: "SchedulingGates", points: &[PreEnqueue], weight: 0, build: |_| Ok(Box::new(scheduling_gates::SchedulingGates)) },
    Row { name: "NodeUnschedulable", points: &[Filter], weight: 0, build: |_| Ok(Box::new(node_unschedulable::NodeUnschedulable)) },
    Row { name: "NodeName", points: &[Filter], weight: 0, build: |_| Ok(Box::new(node_name::NodeName)) },
    Row { name: "TaintToleration", points: &[Filter, Score], weight: 3, build: |_| Ok(Box::new(taint_toleration::TaintToleration)) },
    Row { name: "NodeAffinity", points: &[Filter, Score], weight: 2, build: node_affinity::build },
    Row { name: "NodePorts", points: &[Filter], weight: 0, build: |_| Ok(Box::new(node_ports::NodePorts)) },
    Row { name: "NodeResourcesFit", points: &[Filter, Score], weight: 1, build: node_resources_fit::build },
    Row { name: "PodTopologySpread", points: &[Filter, Score], weight: 2, build: pod_topology_spread::build },
    Row { name: "InterPodAffinity", points: &[Filter, Score], weight: 2, build: inter_pod_affinity::build },
    Row { name: "DefaultPreemption", points: &[PostFilter], weight: 0, build: default_preemption::build },
    Row { name: "NodeResourcesBalancedAllocation", points: &[Score], weight: 1, build: node_resources_balanced_allocation::build },
    Row { name: "ImageLocality", points: &[Score], weight: 1, build: |_| Ok(Box::new(image_locality::ImageLocality)) },
];

/// What upstream calls plugins and is here part of the scheduler itself: a configuration may name them.
const BUILT_IN: &[&str] = &["PrioritySort", "DefaultBinder"];

pub fn is_known(name: &str) -> bool {
    TABLE.iter().any(|row| row.name == name) || BUILT_IN.contains(&name)
}

pub fn build(name: &str, args: &Value) -> Result<Box<dyn Plugin>, ArgsError> {
    let row = TABLE.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| ArgsError::Invalid(format!("plugin {name:?} does not exist")))?;
    (row.build)(args)
}

/// Parses `pluginConfig[].args`; no arguments are the defaults. The envelope (`apiVersion`, `kind`) is dropped.
fn parse<T: DeserializeOwned + Default>(args: &Value) -> Result<T, ArgsError> {
    let Value::Object(fields) = args else { return Ok(T::default()) };
    let fields = fields.iter().filter(|(key, _)| *key != "apiVersion" && *key != "kind");
    let fields = fields.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(serde_json::from_value(Value::Object(fields))?)
}
