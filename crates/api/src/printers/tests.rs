use jiff::Timestamp;
use serde_json::{Value, json};

use crate::table::Table;

const NOW: &str = "2026-01-01T00:10:00Z";

/// The cells of an object by column name, wide ones included.
fn row(kind: (&str, &str, &str), object: &Value) -> Vec<(String, Value)> {
    let table = Table::builtin();
    let resource = table.by_kind(kind.0, kind.1, kind.2).expect("a known kind");
    let now: Timestamp = NOW.parse().expect("a time");
    let (columns, cells) = (resource.columns(), resource.cells(object, now));
    assert_eq!(columns.len(), cells.len(), "{kind:?} has a cell for every column");
    columns.into_iter().map(|c| c.name.into_owned()).zip(cells).collect()
}

fn cells(kind: (&str, &str, &str), object: &Value) -> Vec<Value> {
    row(kind, object).into_iter().map(|(_, cell)| cell).collect()
}

fn check(kind: (&str, &str, &str), mut object: Value, expected: &[Value]) {
    object["metadata"]["name"] = "x".into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:06:40Z".into();
    assert_eq!(cells(kind, &object), expected, "{object}");
}

#[test]
fn every_kind_has_a_cell_for_every_column_even_when_the_object_is_empty() {
    for resource in Table::builtin().rows() {
        let found = row((&resource.group, &resource.version, &resource.kind), &json!({}));
        assert!(found.iter().all(|(_, cell)| !cell.is_object() && !cell.is_array()), "{}", resource.kind);
    }
}

const POD: (&str, &str, &str) = ("", "v1", "Pod");

/// READY, STATUS and RESTARTS of a pod.
fn check_pod(pod: Value, expected: [&str; 3]) {
    let found = cells(POD, &pod);
    let found: Vec<&str> = found[1..4].iter().map(|cell| cell.as_str().expect("text")).collect();
    assert_eq!(found, expected, "{pod}");
}

fn pod(phase: &str, init: Value, statuses: Value) -> Value {
    json!({
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
        "status": {"phase": phase, "initContainerStatuses": init, "containerStatuses": statuses},
    })
}

#[test]
fn pods_before_their_containers_run() {
    let waiting = |reason: &str| json!([{"name": "a", "state": {"waiting": {"reason": reason}}}]);
    let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    check_pod(pod("Pending", json!([]), json!([])), ["0/2", "Pending", "0"]);
    check_pod(pod("Pending", json!([]), waiting("ContainerCreating")), ["0/2", "ContainerCreating", "0"]);
    check_pod(pod("Pending", json!([]), waiting("ImagePullBackOff")), ["0/2", "ImagePullBackOff", "0"]);
    let mut gated = pod("Pending", json!([]), json!([]));
    gated["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    check_pod(gated, ["0/2", "SchedulingGated", "0"]);
    let running = json!({"name": "i", "state": {"running": {}}});
    check_pod(pod("Pending", json!([running]), waiting("PodInitializing")), ["0/2", "Init:0/2", "0"]);
    let second = json!({"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}});
    check_pod(pod("Pending", json!([done, second]), json!([])), ["0/2", "Init:1/2", "0"]);
    let failed = |terminated: Value| json!([{"name": "i", "restartCount": 2, "state": {"terminated": terminated}}]);
    check_pod(pod("Pending", failed(json!({"exitCode": 1})), json!([])), ["0/2", "Init:ExitCode:1", "2"]);
    check_pod(pod("Pending", failed(json!({"exitCode": 9, "signal": 9})), json!([])), ["0/2", "Init:Signal:9", "2"]);
    let error = json!({"exitCode": 1, "reason": "Error"});
    check_pod(pod("Pending", failed(error), json!([])), ["0/2", "Init:Error", "2"]);
    let back_off = json!([{"name": "i", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:30Z"}}}]);
    check_pod(pod("Pending", back_off, json!([])), ["0/2", "Init:CrashLoopBackOff", "3 (30s ago)"]);
}

#[test]
fn pods_whose_containers_run_or_ran() {
    let run = |name: &str, ready: bool| json!({"name": name, "ready": ready, "state": {"running": {}}});
    let ended = |name: &str, terminated: Value| json!({"name": name, "state": {"terminated": terminated}});
    let completed = || json!({"exitCode": 0, "reason": "Completed"});
    let none = || json!([]);
    check_pod(pod("Running", none(), json!([run("a", true), run("b", true)])), ["2/2", "Running", "0"]);
    check_pod(pod("Running", none(), json!([run("a", true), run("b", false)])), ["1/2", "Running", "0"]);
    check_pod(
        pod("Succeeded", none(), json!([ended("a", completed()), ended("b", completed())])),
        ["0/2", "Completed", "0"],
    );
    check_pod(pod("Failed", none(), json!([ended("a", json!({"exitCode": 3}))])), ["0/2", "ExitCode:3", "0"]);
    check_pod(
        pod("Failed", none(), json!([ended("a", json!({"exitCode": 137, "signal": 9}))])),
        ["0/2", "Signal:9", "0"],
    );
    let oom = json!({"exitCode": 137, "reason": "OOMKilled"});
    check_pod(pod("Running", none(), json!([ended("a", oom), run("b", true)])), ["1/2", "OOMKilled", "0"]);
    let half = || pod("Running", none(), json!([ended("a", completed()), run("b", true)]));
    check_pod(half(), ["1/2", "NotReady", "0"]);
    let mut ready = half();
    ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    check_pod(ready, ["1/2", "Running", "0"]);
    let looping = json!([{"name": "a", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:06:40Z"}}}]);
    check_pod(pod("Running", none(), looping), ["0/2", "CrashLoopBackOff", "4 (3m20s ago)"]);
    let mut evicted = pod("Failed", none(), none());
    evicted["status"]["reason"] = "Evicted".into();
    check_pod(evicted, ["0/2", "Evicted", "0"]);
}

#[test]
fn pods_that_are_deleted() {
    let deleted = |phase: &str, reason: &str| {
        let mut pod = pod(phase, json!([]), json!([]));
        pod["metadata"]["deletionTimestamp"] = NOW.into();
        pod["status"]["reason"] = reason.into();
        pod
    };
    check_pod(deleted("Running", ""), ["0/2", "Terminating", "0"]);
    check_pod(deleted("Running", "NodeLost"), ["0/2", "Unknown", "0"]);
    check_pod(deleted("Failed", ""), ["0/2", "Failed", "0"]);
}

#[test]
fn sidecars_count_as_containers() {
    let mut pod = pod(
        "Running",
        json!([{"name": "i", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}},
            {"name": "j", "restartCount": 5, "state": {"terminated": {"exitCode": 0}}}]),
        json!([{"name": "a", "ready": true, "state": {"running": {}}}]),
    );
    pod["spec"]["initContainers"][0]["restartPolicy"] = "Always".into();
    check_pod(pod, ["2/3", "Running", "1"]);
}

#[test]
fn wide_pods() {
    let pod = json!({"spec": {"nodeName": "n", "readinessGates": [{"conditionType": "x/y"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}});
    let expected = ["x", "0/0", "Running", "0", "3m20s", "10.0.0.1", "n", "<none>", "0/1"];
    check(POD, pod, &expected.map(Value::from));
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:2"}]}});
    check(
        ("apps", "v1", "Deployment"),
        json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": template},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
        &["x".into(), "2/3".into(), 3.into(), 1.into(), "3m20s".into(), "a,b".into(), "i:1,i:2".into(), "app=x".into()],
    );
    check(
        ("apps", "v1", "ReplicaSet"),
        json!({"spec": {"replicas": 3}, "status": {"replicas": 2}}),
        &["x".into(), 3.into(), 2.into(), 0.into(), "3m20s".into(), "".into(), "".into(), "<none>".into()],
    );
    check(
        ("", "v1", "ReplicationController"),
        json!({"spec": {"replicas": 1, "selector": {"b": "2", "a": "1"}}}),
        &["x".into(), 1.into(), 0.into(), 0.into(), "3m20s".into(), "".into(), "".into(), "a=1,b=2".into()],
    );
    let job = |conditions: Value| {
        json!({"spec": {"completions": 3}, "status": {"succeeded": 1, "conditions": conditions,
        "startTime": "2026-01-01T00:09:00Z"}})
    };
    let job_cells = |status: &str| ["x", status, "1/3", "60s", "3m20s", "", "", "<none>"].map(Value::from);
    check(("batch", "v1", "Job"), job(json!([])), &job_cells("Running"));
    check(("batch", "v1", "Job"), job(json!([{"type": "Complete", "status": "True"}])), &job_cells("Complete"));
    check(
        ("batch", "v1", "CronJob"),
        json!({"spec": {"schedule": "* * * * *", "suspend": false},
            "status": {"active": [{}], "lastScheduleTime": "2026-01-01T00:09:00Z"}}),
        &[
            "x".into(),
            "* * * * *".into(),
            "<none>".into(),
            "False".into(),
            1.into(),
            "60s".into(),
            "3m20s".into(),
            "".into(),
            "".into(),
            "<none>".into(),
        ],
    );
}

#[test]
fn services_and_endpoints() {
    let service = |spec: Value| json!({"spec": spec});
    let cells = |kind: &str, ip: &str, external: &str, ports: &str| {
        ["x", kind, ip, external, ports, "3m20s", "<none>"].map(Value::from)
    };
    const SERVICE: (&str, &str, &str) = ("", "v1", "Service");
    check(
        SERVICE,
        service(json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 443, "protocol": "TCP"}]})),
        &cells("ClusterIP", "10.96.0.1", "<none>", "443/TCP"),
    );
    check(
        SERVICE,
        service(json!({"type": "NodePort", "clusterIPs": ["1.2.3.4"], "externalIPs": ["5.6.7.8"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]})),
        &cells("NodePort", "1.2.3.4", "5.6.7.8", "80:30080/TCP,53/UDP"),
    );
    check(SERVICE, service(json!({"type": "LoadBalancer"})), &cells("LoadBalancer", "<none>", "<pending>", "<none>"));
    check(
        SERVICE,
        service(json!({"type": "ExternalName", "externalName": "a.b"})),
        &cells("ExternalName", "<none>", "a.b", "<none>"),
    );
    let addresses = json!([{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}]);
    check(
        ("", "v1", "Endpoints"),
        json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}, {"port": 81}]}]}),
        &["x".into(), "1.1.1.1:80,1.1.1.2:80,1.1.1.1:81 + 1 more...".into(), "3m20s".into()],
    );
    check(("", "v1", "Endpoints"), json!({}), &["x".into(), "<none>".into(), "3m20s".into()]);
    check(
        ("discovery.k8s.io", "v1", "EndpointSlice"),
        json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}]}),
        &["x", "IPv4", "80", "1.1.1.1", "3m20s"].map(Value::from),
    );
}

#[test]
fn nodes_and_events() {
    check(
        ("", "v1", "Node"),
        json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
        &[
            "x",
            "Ready,SchedulingDisabled",
            "control-plane",
            "3m20s",
            "v1.36.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "<unknown>",
            "<unknown>",
        ]
        .map(Value::from),
    );
    check(
        ("", "v1", "Event"),
        json!({"type": "Normal", "reason": "Pulled", "message": " done\n", "involvedObject": {"kind": "Pod", "name": "p",
            "fieldPath": "spec.containers{a}"}, "source": {"component": "kubelet", "host": "n"}, "count": 2,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:00Z"}),
        &[
            "60s".into(),
            "Normal".into(),
            "Pulled".into(),
            "pod/p".into(),
            "spec.containers{a}".into(),
            "kubelet, n".into(),
            "done".into(),
            "10m".into(),
            2.into(),
            "x".into(),
        ],
    );
}

#[test]
fn the_rest() {
    check(
        ("", "v1", "ResourceQuota"),
        json!({"status": {"hard": {"limits.cpu": "4", "pods": "10", "cpu": "2"}, "used": {"pods": "1"}}}),
        &["x", "cpu: 0/2, pods: 1/10", "limits.cpu: 0/4", "3m20s"].map(Value::from),
    );
    check(
        ("", "v1", "PersistentVolumeClaim"),
        json!({"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
        &["x", "Bound", "v", "1Gi", "RWO,RWX", "s", "<unset>", "3m20s", "Filesystem"].map(Value::from),
    );
    check(
        ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
        &["x", "Role/r", "3m20s", "u", "", "n/s"].map(Value::from),
    );
    check(
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]}}),
        &[
            "x".into(),
            "Deployment/d".into(),
            "cpu: <unknown>/80%".into(),
            "<unset>".into(),
            5.into(),
            0.into(),
            "3m20s".into(),
        ],
    );
    check(
        ("apps", "v1", "ControllerRevision"),
        json!({"revision": 2, "metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true}]}}),
        &["x".into(), "statefulset.apps/web".into(), 2.into(), "3m20s".into()],
    );
    check(("rbac.authorization.k8s.io", "v1", "Role"), json!({}), &["x".into(), "2026-01-01T00:06:40Z".into()]);
}
