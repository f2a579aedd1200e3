//! The types that the model starts from; everything that they are made of follows.

use k8s_openapi::Resource;
use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling, batch::v1 as batch,
    certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::node::Gvk;

/// One root: a kind and how its schema is made.
pub(super) struct Root {
    pub gvk: Option<Gvk>,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

fn kind<T: Resource + JsonSchema>() -> Root {
    let gvk = Gvk::new(T::GROUP, T::VERSION, T::KIND);
    Root { gvk: Some(gvk), schema: |generator| generator.subschema_for::<T>() }
}

/// A type that is no kind by itself.
fn part<T: JsonSchema>() -> Root {
    Root { gvk: None, schema: |generator| generator.subschema_for::<T>() }
}

/// `DeleteOptions` is accepted in every group; here it stands under the legacy one.
fn delete_options() -> Root {
    Root { gvk: Some(Gvk::new("", "v1", "DeleteOptions")), ..part::<meta::DeleteOptions>() }
}

pub(super) fn all() -> Vec<Root> {
    vec![
        kind::<core::Binding>(),
        kind::<core::ConfigMap>(),
        kind::<core::Endpoints>(),
        kind::<core::Event>(),
        kind::<core::LimitRange>(),
        kind::<core::Namespace>(),
        kind::<core::Node>(),
        kind::<core::PersistentVolume>(),
        kind::<core::PersistentVolumeClaim>(),
        kind::<core::Pod>(),
        kind::<core::PodTemplate>(),
        kind::<core::ReplicationController>(),
        kind::<core::ResourceQuota>(),
        kind::<core::Secret>(),
        kind::<core::Service>(),
        kind::<core::ServiceAccount>(),
        kind::<apiextensions::CustomResourceDefinition>(),
        kind::<apps::ControllerRevision>(),
        kind::<apps::DaemonSet>(),
        kind::<apps::Deployment>(),
        kind::<apps::ReplicaSet>(),
        kind::<apps::StatefulSet>(),
        kind::<authentication::SelfSubjectReview>(),
        kind::<authentication::TokenRequest>(),
        kind::<authentication::TokenReview>(),
        kind::<authorization::LocalSubjectAccessReview>(),
        kind::<authorization::SelfSubjectAccessReview>(),
        kind::<authorization::SelfSubjectRulesReview>(),
        kind::<authorization::SubjectAccessReview>(),
        kind::<autoscaling_v1::Scale>(),
        kind::<autoscaling_v1::HorizontalPodAutoscaler>(),
        kind::<autoscaling::HorizontalPodAutoscaler>(),
        kind::<batch::CronJob>(),
        kind::<batch::Job>(),
        kind::<certificates::CertificateSigningRequest>(),
        kind::<coordination::Lease>(),
        kind::<discovery::EndpointSlice>(),
        kind::<events::Event>(),
        kind::<networking::Ingress>(),
        kind::<networking::IngressClass>(),
        kind::<networking::IPAddress>(),
        kind::<networking::ServiceCIDR>(),
        kind::<networking::NetworkPolicy>(),
        kind::<node::RuntimeClass>(),
        kind::<policy::Eviction>(),
        kind::<policy::PodDisruptionBudget>(),
        kind::<rbac::ClusterRole>(),
        kind::<rbac::ClusterRoleBinding>(),
        kind::<rbac::Role>(),
        kind::<rbac::RoleBinding>(),
        kind::<scheduling::PriorityClass>(),
        kind::<storage::CSIDriver>(),
        kind::<storage::CSINode>(),
        kind::<storage::CSIStorageCapacity>(),
        kind::<storage::StorageClass>(),
        kind::<storage::VolumeAttachment>(),
        kind::<storage::VolumeAttributesClass>(),
        kind::<meta::Status>(),
        delete_options(),
        part::<meta::APIResourceList>(),
        part::<meta::LabelSelector>(),
        part::<meta::ListMeta>(),
        part::<meta::WatchEvent<RawExtension>>(),
    ]
}
