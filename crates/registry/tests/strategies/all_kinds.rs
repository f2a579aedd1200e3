//! What holds for every row of the table.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::context;

type Sample = (&'static str, &'static str, Value);

/// One plain object per kind, as a person would write it.
fn samples() -> Vec<Sample> {
    [core(), workloads(), access(), others()].concat()
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "a"}})
}

fn claim() -> Value {
    json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
}

fn core() -> Vec<Sample> {
    vec![
        ("", "Namespace", json!({})),
        ("", "Pod", json!({"spec": template()["spec"]})),
        ("", "Node", json!({"spec": {"podCIDR": "10.244.0.0/24"}, "status": {"capacity": {"cpu": 2, "pods": 110}}})),
        ("", "Service", json!({"spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}})),
        ("", "Endpoints", json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]})),
        ("", "ConfigMap", json!({"data": {"a.conf": "x"}})),
        ("", "Secret", json!({"stringData": {"password": "x"}})),
        ("", "ServiceAccount", json!({"secrets": [{"name": "s"}]})),
        ("", "Event", json!({"involvedObject": {"namespace": "default"}, "reason": "Started"})),
        ("", "ReplicationController", json!({"spec": {"template": template()}})),
        (
            "",
            "PersistentVolume",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}}),
        ),
        ("", "PersistentVolumeClaim", json!({"spec": claim()})),
        (
            "",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": 1}}]}}),
        ),
        ("", "ResourceQuota", json!({"spec": {"hard": {"pods": "10", "requests.cpu": 4}}})),
        ("", "PodTemplate", json!({"template": template()})),
    ]
}

fn workloads() -> Vec<Sample> {
    let once = || json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}});
    vec![
        ("apps", "Deployment", json!({"spec": {"selector": selector(), "template": template()}})),
        ("apps", "ReplicaSet", json!({"spec": {"selector": selector(), "template": template()}})),
        ("apps", "DaemonSet", json!({"spec": {"selector": selector(), "template": template()}})),
        (
            "apps",
            "StatefulSet",
            json!({"spec": {"selector": selector(), "template": template(), "serviceName": "s",
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim()}]}}),
        ),
        ("apps", "ControllerRevision", json!({"revision": 1, "data": {"a": 1}})),
        ("batch", "Job", json!({"spec": {"template": once()}})),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": once()}}}}),
        ),
    ]
}

fn access() -> Vec<Sample> {
    let role_ref = || json!({"kind": "ClusterRole", "name": "view"});
    let subjects = || json!([{"kind": "User", "name": "jane"}]);
    let rules = || json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    vec![
        ("rbac.authorization.k8s.io", "Role", json!({"rules": rules()})),
        ("rbac.authorization.k8s.io", "RoleBinding", json!({"roleRef": role_ref(), "subjects": subjects()})),
        ("rbac.authorization.k8s.io", "ClusterRole", json!({"rules": rules()})),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding", json!({"roleRef": role_ref(), "subjects": subjects()})),
    ]
}

fn others() -> Vec<Sample> {
    vec![
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        ),
        ("coordination.k8s.io", "Lease", json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 40}})),
        (
            "events.k8s.io",
            "Event",
            json!({"regarding": {"namespace": "default"}, "reason": "Started", "action": "Start", "type": "Normal",
                "eventTime": "2026-01-02T03:04:05.000000Z", "reportingController": "kubelet",
                "reportingInstance": "node-1"}),
        ),
        ("certificates.k8s.io", "CertificateSigningRequest", crate::certificates::request()),
        ("policy", "PodDisruptionBudget", json!({"spec": {"minAvailable": "50%", "selector": selector()}})),
        ("scheduling.k8s.io", "PriorityClass", json!({"value": 1000})),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}], "ingress": [{"from": [
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": selector()}]}]}}),
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {"rules": [{"host": "*.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}}),
        ),
        (
            "networking.k8s.io",
            "IPAddress",
            json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}}),
        ),
        ("networking.k8s.io", "ServiceCIDR", json!({"spec": {"cidrs": ["10.0.0.0/24"]}})),
        ("networking.k8s.io", "IngressClass", json!({"spec": {"controller": "example.com/ingress"}})),
        ("storage.k8s.io", "StorageClass", json!({"provisioner": "example.com/disk"})),
        ("storage.k8s.io", "CSIDriver", json!({"spec": {"tokenRequests": [{"audience": "a"}]}})),
        ("storage.k8s.io", "CSIStorageCapacity", json!({"storageClassName": "fast", "capacity": "1Gi"})),
        (
            "storage.k8s.io",
            "VolumeAttachment",
            json!({"spec": {"attacher": "disk.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        ),
        (
            "storage.k8s.io",
            "VolumeAttributesClass",
            json!({"driverName": "disk.example.com", "parameters": {"a": "b"}}),
        ),
        ("storage.k8s.io", "CSINode", json!({"spec": {"drivers": [{"name": "disk.example.com", "nodeID": "n"}]}})),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
                "behavior": {}}}),
        ),
        ("node.k8s.io", "RuntimeClass", json!({"handler": "runc"})),
    ]
}

#[test]
fn every_kind_has_a_sample_here() {
    let rows: BTreeSet<_> = registry::TABLE.iter().map(|row| (row.group, row.kind)).collect();
    let sampled: BTreeSet<_> = samples().into_iter().map(|(group, kind, _)| (group, kind)).collect();
    assert_eq!(rows, sampled);
}

#[test]
fn a_plain_object_is_accepted_defaults_once_and_may_be_written_again_unchanged() {
    let rows = |group: &str, kind: &str| -> Vec<_> {
        registry::TABLE.iter().filter(|r| r.group == group && r.kind == kind).collect()
    };
    let of_rows = |(group, kind, object): Sample| rows(group, kind).into_iter().map(move |row| (row, object.clone()));
    for (row, mut object) in samples().into_iter().flat_map(of_rows) {
        let (group, kind) = (row.group, row.kind);
        let rules = registry::strategy_for(group, row.version, kind).expect("the table finds its own rows");
        let ctx = context();
        // The only kind whose name says something.
        let name = if kind == "IPAddress" { "10.0.0.1" } else { "sample" };
        object["metadata"] = json!({"name": name, "namespace": "default", "uid": "u-1"});

        rules.default(&mut object).expect("decodes");
        let once = object.clone();
        rules.default(&mut object).expect("decodes");
        assert_eq!(object, once, "{group} {kind}: defaulting twice is defaulting once");

        rules.prepare_create(&mut object, &ctx).expect("decodes");
        let errors = rules.validate_create(&object, &ctx).expect("decodes");
        assert!(errors.is_empty(), "{group} {kind}: {errors}");

        let mut again = object.clone();
        rules.default(&mut again).expect("decodes");
        assert_eq!(again, object, "{group} {kind}: what is stored is already defaulted");
        rules.prepare_update(&mut again, &object, &ctx).expect("decodes");
        assert_eq!(again, object, "{group} {kind}: an update with nothing new changes nothing");
        let errors = rules.validate_update(&again, &object, &ctx).expect("decodes");
        assert!(errors.is_empty(), "{group} {kind}: {errors}");
    }
}

#[test]
fn an_unknown_kind_has_no_rules() {
    assert!(registry::strategy_for("apps", "v1beta1", "Deployment").is_none());
    assert!(registry::strategy_for("example.com", "v1", "Deployment").is_none());
}
