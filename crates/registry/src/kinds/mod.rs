//! The table: one row and one file per kind.

use crate::strategy::Erased;

/// Which strategy rules a kind.
pub struct Row {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub strategy: &'static dyn Erased,
}

macro_rules! table {
    ($( $group:literal $version:literal $kind:ident $module:ident; )*) => {
        $( pub mod $module; )*

        /// Every kind this server has rules for.
        pub static TABLE: &[Row] = &[
            $( Row { group: $group, version: $version, kind: stringify!($kind), strategy: &$module::Rules }, )*
        ];
    };
}

table! {
    "" "v1" Namespace namespace;
    "" "v1" Pod pod;
    "" "v1" Node node;
    "" "v1" Service service;
    "" "v1" Endpoints endpoints;
    "" "v1" ConfigMap config_map;
    "" "v1" Secret secret;
    "" "v1" ServiceAccount service_account;
    "" "v1" Event event;
    "" "v1" ReplicationController replication_controller;
    "" "v1" PersistentVolume persistent_volume;
    "" "v1" PersistentVolumeClaim persistent_volume_claim;
    "" "v1" LimitRange limit_range;
    "" "v1" ResourceQuota resource_quota;
    "" "v1" PodTemplate pod_template;
    "apps" "v1" Deployment deployment;
    "apps" "v1" ReplicaSet replica_set;
    "apps" "v1" DaemonSet daemon_set;
    "apps" "v1" StatefulSet stateful_set;
    "apps" "v1" ControllerRevision controller_revision;
    "batch" "v1" Job job;
    "batch" "v1" CronJob cron_job;
    "discovery.k8s.io" "v1" EndpointSlice endpoint_slice;
    "coordination.k8s.io" "v1" Lease lease;
    "events.k8s.io" "v1" Event events_event;
    "rbac.authorization.k8s.io" "v1" Role role;
    "rbac.authorization.k8s.io" "v1" RoleBinding role_binding;
    "rbac.authorization.k8s.io" "v1" ClusterRole cluster_role;
    "rbac.authorization.k8s.io" "v1" ClusterRoleBinding cluster_role_binding;
    "policy" "v1" PodDisruptionBudget pod_disruption_budget;
    "scheduling.k8s.io" "v1" PriorityClass priority_class;
    "networking.k8s.io" "v1" NetworkPolicy network_policy;
    "networking.k8s.io" "v1" Ingress ingress;
    "networking.k8s.io" "v1" IngressClass ingress_class;
    "networking.k8s.io" "v1" IPAddress ip_address;
    "networking.k8s.io" "v1" ServiceCIDR service_cidr;
    "storage.k8s.io" "v1" StorageClass storage_class;
    "storage.k8s.io" "v1" CSIDriver csi_driver;
    "storage.k8s.io" "v1" CSINode csi_node;
    "storage.k8s.io" "v1" CSIStorageCapacity csi_storage_capacity;
    "storage.k8s.io" "v1" VolumeAttachment volume_attachment;
    "storage.k8s.io" "v1" VolumeAttributesClass volume_attributes_class;
    "autoscaling" "v2" HorizontalPodAutoscaler horizontal_pod_autoscaler;
    "autoscaling" "v1" HorizontalPodAutoscaler horizontal_pod_autoscaler_v1;
    "certificates.k8s.io" "v1" CertificateSigningRequest certificate_signing_request;
    "node.k8s.io" "v1" RuntimeClass runtime_class;
}

/// The rules of a kind; `None` for a kind that has none here (one of a CustomResourceDefinition).
pub fn strategy_for(group: &str, version: &str, kind: &str) -> Option<&'static dyn Erased> {
    let row = TABLE.iter().find(|r| r.kind == kind && r.group == group && r.version == version)?;
    Some(row.strategy)
}

/// A write to the main resource keeps the status, one to `/status` keeps the spec.
macro_rules! keep_other_half {
    ($new:expr, $old:expr, $ctx:expr) => {
        if $ctx.status {
            $new.spec.clone_from(&$old.spec);
        } else {
            $new.status.clone_from(&$old.status);
        }
    };
}
pub(crate) use keep_other_half;
