//! What is watched, reduced to what scheduling needs the moment it is received: a ReplicaSet is its selector, a
//! pod its [`PodInfo`]. The rest is never kept.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use scheduling::labels::Labels;
use scheduling::selector::Selector;
use scheduling::snapshot::Budget;
use scheduling::{NodeInfo, PodInfo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// How a kind is read and what is kept of it.
pub trait Reduced: Clone + Debug + Send + Sync + 'static {
    type Scope;
    type Source: DeserializeOwned;
    const GROUP: &'static str;
    const KIND: &'static str;
    const PLURAL: &'static str;

    fn reduce(source: Self::Source) -> (ObjectMeta, Self);
}

/// A watched object: enough metadata to be found again, and what was kept.
#[derive(Clone, Debug)]
pub struct Watched<T> {
    metadata: ObjectMeta,
    pub object: T,
}

impl<'de, T: Reduced> Deserialize<'de> for Watched<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (metadata, object) = T::reduce(T::Source::deserialize(deserializer)?);
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            resource_version: metadata.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Watched { metadata, object })
    }
}

impl<T: Reduced> kube::Resource for Watched<T> {
    type DynamicType = ();
    type Scope = T::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        T::GROUP.into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Clone, Debug)]
pub struct Pod(pub Arc<PodInfo>);

impl Reduced for Pod {
    type Scope = NamespaceResourceScope;
    type Source = core::Pod;
    const GROUP: &'static str = "";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";

    fn reduce(pod: core::Pod) -> (ObjectMeta, Self) {
        let info = Arc::new(PodInfo::new(&pod));
        (pod.metadata, Pod(info))
    }
}

#[derive(Clone, Debug)]
pub struct Node(pub Arc<NodeInfo>);

impl Reduced for Node {
    type Scope = ClusterResourceScope;
    type Source = core::Node;
    const GROUP: &'static str = "";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";

    fn reduce(node: core::Node) -> (ObjectMeta, Self) {
        let info = Arc::new(NodeInfo::new(&node));
        (node.metadata, Node(info))
    }
}

#[derive(Clone, Debug)]
pub struct Namespace(pub Labels);

#[derive(Deserialize)]
pub struct OnlyMetadata {
    metadata: ObjectMeta,
}

impl Reduced for Namespace {
    type Scope = ClusterResourceScope;
    type Source = OnlyMetadata;
    const GROUP: &'static str = "";
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";

    fn reduce(source: OnlyMetadata) -> (ObjectMeta, Self) {
        let labels = Labels::from(source.metadata.labels.as_ref());
        (source.metadata, Namespace(labels))
    }
}

/// The part of a workload that tells which pods are its own.
#[derive(Deserialize)]
pub struct WithSelector<S> {
    metadata: ObjectMeta,
    #[serde(default = "none")]
    spec: Option<SelectorSpec<S>>,
}

#[derive(Deserialize)]
struct SelectorSpec<S> {
    #[serde(default = "none")]
    selector: Option<S>,
}

fn none<T>() -> Option<T> {
    None
}

type LabelMap = std::collections::BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub struct Service(pub Labels);

impl Reduced for Service {
    type Scope = NamespaceResourceScope;
    type Source = WithSelector<LabelMap>;
    const GROUP: &'static str = "";
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";

    fn reduce(source: Self::Source) -> (ObjectMeta, Self) {
        let labels = Labels::from(source.spec.and_then(|s| s.selector).as_ref());
        (source.metadata, Service(labels))
    }
}

/// A kind that owns pods and selects them.
pub trait Workload: Reduced {
    fn selector(&self) -> &Selector;
}

macro_rules! workload {
    ($name:ident, $group:literal, $plural:literal, $selector:ty, $read:expr) => {
        #[derive(Clone, Debug)]
        pub struct $name(Selector);

        impl Reduced for $name {
            type Scope = NamespaceResourceScope;
            type Source = WithSelector<$selector>;
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const PLURAL: &'static str = $plural;

            fn reduce(source: Self::Source) -> (ObjectMeta, Self) {
                let read: fn(Option<$selector>) -> Selector = $read;
                (source.metadata, $name(read(source.spec.and_then(|s| s.selector))))
            }
        }

        impl Workload for $name {
            fn selector(&self) -> &Selector {
                &self.0
            }
        }
    };
}

fn of_map(selector: Option<LabelMap>) -> Selector {
    let pairs = selector.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str()));
    Selector::equal_to(pairs)
}

fn of_label_selector(selector: Option<LabelSelector>) -> Selector {
    Selector::new(selector.as_ref())
}

workload!(ReplicationController, "", "replicationcontrollers", LabelMap, of_map);
workload!(ReplicaSet, "apps", "replicasets", LabelSelector, of_label_selector);
workload!(StatefulSet, "apps", "statefulsets", LabelSelector, of_label_selector);

#[derive(Clone, Debug)]
pub struct DisruptionBudget(pub Budget);

impl Reduced for DisruptionBudget {
    type Scope = NamespaceResourceScope;
    type Source = PodDisruptionBudget;
    const GROUP: &'static str = "policy";
    const KIND: &'static str = "PodDisruptionBudget";
    const PLURAL: &'static str = "poddisruptionbudgets";

    fn reduce(source: PodDisruptionBudget) -> (ObjectMeta, Self) {
        let budget = Budget::new(&source);
        (source.metadata, DisruptionBudget(budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;
    use serde_json::json;

    #[test]
    fn a_workload_is_its_selector() {
        let set: Watched<ReplicaSet> = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "web", "namespace": "default", "annotations": {"big": "one"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {}}},
        }))
        .expect("a ReplicaSet");
        assert_eq!(set.meta().name.as_deref(), Some("web"));
        assert!(set.meta().annotations.is_none());
        assert!(set.object.selector().matches(&Labels::from([("app", "web")])));
        assert!(!set.object.selector().matches(&Labels::from([("app", "db")])));
    }

    #[test]
    fn a_service_without_selector_has_none() {
        let service: Watched<Service> =
            serde_json::from_value(json!({"metadata": {"name": "kubernetes"}, "spec": {"ports": []}}))
                .expect("a Service");
        assert!(service.object.0.is_empty());
    }
}
