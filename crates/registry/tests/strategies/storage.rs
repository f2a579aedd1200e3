//! PersistentVolume, PersistentVolumeClaim, classes, and what drivers say of themselves.

use serde_json::{Value, json};

use crate::support::{check, check_update, defaulted, prepared, with};

fn volume() -> Value {
    json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/x"}}})
}

fn claim() -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}})
}

#[test]
fn defaults() {
    let filled = defaulted("PersistentVolume", volume());
    assert_eq!(filled["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(filled["spec"]["volumeMode"], "Filesystem");
    let stored = prepared("PersistentVolume", volume());
    assert_eq!(stored["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-01-02T03:04:05Z"}));
    assert_eq!(prepared("PersistentVolumeClaim", claim())["status"], json!({"phase": "Pending"}));
    let class = defaulted("StorageClass", json!({"provisioner": "a.io/x"}));
    assert_eq!((&class["reclaimPolicy"], &class["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
}

#[test]
fn volumes() {
    let one = |field: &str, value: Value, expected: &str| {
        check("PersistentVolume", with(volume(), &format!("/spec/{field}"), value), expected);
    };
    one("accessModes", json!([]), "spec.accessModes: Required value");
    one("capacity", Value::Null, "spec.capacity: Required value");
    one("capacity", json!({"storage": "0"}), "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero");
    one("hostPath", Value::Null, "spec: Required value: must specify a volume type");
    one("nfs", json!({"server": "s", "path": "/"}), "spec.nfs: Forbidden: may not specify more than 1 volume type");
    check_update(
        "PersistentVolume",
        volume(),
        with(volume(), "/spec/hostPath/path", json!("/y")),
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
    );
    check_update("PersistentVolume", volume(), with(volume(), "/spec/claimRef", json!({"name": "c"})), "");
}

#[test]
fn claims() {
    let one = |field: &str, value: Value, expected: &str| {
        check("PersistentVolumeClaim", with(claim(), &format!("/spec/{field}"), value), expected);
    };
    one("accessModes", Value::Null, "spec.accessModes: Required value: at least 1 access mode is required");
    one(
        "accessModes",
        json!(["Any"]),
        "spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
         \"ReadWriteOnce\", \"ReadWriteOncePod\"",
    );
    one("resources", Value::Null, "spec.resources[storage]: Required value");
    check_update("PersistentVolumeClaim", claim(), with(claim(), "/spec/volumeName", json!("v")), "");
    check_update(
        "PersistentVolumeClaim",
        claim(),
        with(claim(), "/spec/accessModes", json!(["ReadWriteMany"])),
        "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for \
         bound claims",
    );
}

#[test]
fn classes() {
    let class = || json!({"metadata": {"name": "c"}, "provisioner": "a.io/x"});
    check("StorageClass", with(class(), "/provisioner", json!("")), "provisioner: Required value");
    check_update(
        "StorageClass",
        class(),
        with(class(), "/parameters", json!({"a": "b"})),
        "parameters: Forbidden: updates to parameters are forbidden.",
    );
    let node = json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "a.io", "nodeID": "1"}]}});
    check("CSINode", with(node, "/spec/drivers/0/nodeID", json!("")), "spec.drivers[0].nodeID: Required value");
}

#[test]
fn drivers() {
    let driver = || json!({"metadata": {"name": "d.io"}, "spec": {}});
    let filled = defaulted("CSIDriver", driver());
    assert_eq!(filled["spec"]["volumeLifecycleModes"], json!(["Persistent"]));
    assert_eq!((&filled["spec"]["attachRequired"], &filled["spec"]["podInfoOnMount"]), (&json!(true), &json!(false)));
    let one = |field: &str, value: Value, expected: &str| {
        check("CSIDriver", with(driver(), &format!("/spec/{field}"), value), expected);
    };
    one(
        "fsGroupPolicy",
        json!("Any"),
        "spec.fsGroupPolicy: Unsupported value: \"Any\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
    );
    one(
        "tokenRequests",
        json!([{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}]),
        "[spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes, \
         spec.tokenRequests[1].audience: Duplicate value: \"a\"]",
    );
    one(
        "nodeAllocatableUpdatePeriodSeconds",
        json!(3),
        "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 3: must be greater than or equal to 10 seconds",
    );
    check_update("CSIDriver", driver(), with(driver(), "/spec/podInfoOnMount", json!(true)), "");
    check_update(
        "CSIDriver",
        driver(),
        with(driver(), "/spec/attachRequired", json!(false)),
        "spec.attachedRequired: Invalid value: false: field is immutable",
    );
}

#[test]
fn capacities_and_attributes() {
    let capacity = || json!({"metadata": {"name": "c"}, "storageClassName": "fast", "capacity": "1Gi"});
    check("CSIStorageCapacity", capacity(), "");
    check(
        "CSIStorageCapacity",
        with(capacity(), "/capacity", json!("-1")),
        "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
    );
    check_update(
        "CSIStorageCapacity",
        capacity(),
        with(capacity(), "/storageClassName", json!("slow")),
        "storageClassName: Invalid value: \"slow\": field is immutable",
    );
    let class = || json!({"metadata": {"name": "c"}, "driverName": "d.io", "parameters": {"a": "b"}});
    check("VolumeAttributesClass", class(), "");
    check(
        "VolumeAttributesClass",
        with(class(), "/parameters", json!({})),
        "parameters: Required value: must contain at least one key/value pair",
    );
    check_update(
        "VolumeAttributesClass",
        class(),
        with(class(), "/parameters", json!({"a": "c"})),
        "parameters: Forbidden: updates to parameters are forbidden.",
    );
}

#[test]
fn attachments() {
    let attachment = || {
        json!({"metadata": {"name": "a"},
            "spec": {"attacher": "d.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
    };
    check("VolumeAttachment", attachment(), "");
    check(
        "VolumeAttachment",
        with(attachment(), "/spec/source", json!({})),
        "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
    );
    check("VolumeAttachment", with(attachment(), "/spec/attacher", json!("")), "spec.attacher: Required value");
    let mut asked = attachment();
    asked["status"] = json!({"attached": true});
    assert_eq!(prepared("VolumeAttachment", asked)["status"], json!({"attached": false}));
}
