//! Create, read, change and delete, in all their forms.

use serde_json::{Value, json};

use crate::harness::{Harness, config_map, deployment, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_from_birth_to_death() {
    let h = Harness::start().await;
    let c = h.admin();
    let (code, made) = c.post(MAPS, &config_map("a", json!({"k": "1"}))).await;
    assert_eq!(code, 201, "{made}");
    let metadata = &made["metadata"];
    assert!(metadata["uid"].is_string() && metadata["creationTimestamp"].is_string(), "{metadata}");
    assert_eq!(c.get(&format!("{MAPS}/a")).await, (200, made.clone()));

    // A change with the right version goes through, one with an old version does not.
    let mut changed = made.clone();
    changed["data"]["k"] = "2".into();
    let (code, updated) = c.put(&format!("{MAPS}/a"), &changed).await;
    assert_eq!((code, &updated["data"]["k"]), (200, &json!("2")));
    let (code, conflict) = c.put(&format!("{MAPS}/a"), &changed).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")));

    // A change that changes nothing is not written.
    let (_, same) = c.put(&format!("{MAPS}/a"), &updated).await;
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);

    let (code, status) = c.delete(&format!("{MAPS}/a"), &json!({})).await;
    assert_eq!((code, &status["status"], &status["details"]["uid"]), (200, &json!("Success"), &metadata["uid"]));
    assert_eq!(c.get(&format!("{MAPS}/a")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_generation_and_dry_runs() {
    let h = Harness::start().await;
    let c = h.admin();
    let generated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-"}});
    let (code, made) = c.post(MAPS, &generated).await;
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    assert!(code == 201 && name.len() == 7 && name.starts_with("g-"), "{made}");

    let (code, dry) = c.post(&format!("{MAPS}?dryRun=All"), &config_map("dry", json!({}))).await;
    assert_eq!((code, &dry["metadata"]["resourceVersion"]), (201, &Value::Null));
    assert_eq!(c.get(&format!("{MAPS}/dry")).await.0, 404);

    let (_, made) = c.post(DEPLOYMENTS, &deployment("web")).await;
    assert_eq!(made["metadata"]["generation"], 1, "{made}");
    let patch = json!({"spec": {"replicas": 3}});
    let (_, scaled) = c.patch(&format!("{DEPLOYMENTS}/web"), "merge", &patch).await;
    assert_eq!(scaled["metadata"]["generation"], 2);
    let patch = json!({"status": {"replicas": 3}, "spec": {"replicas": 9}});
    let (_, status) = c.patch(&format!("{DEPLOYMENTS}/web/status"), "merge", &patch).await;
    let got = (&status["metadata"]["generation"], &status["spec"]["replicas"], &status["status"]["replicas"]);
    assert_eq!(got, (&json!(2), &json!(3), &json!(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_and_scale() {
    let h = Harness::start().await;
    let c = h.admin();
    c.post(DEPLOYMENTS, &deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web");
    let images = |object: &Value| {
        let containers = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        containers.iter().map(|c| format!("{}={}", c["name"], c["image"]).replace('"', "")).collect::<Vec<_>>()
    };
    let with = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    let (code, got) = c.patch(&path, "strategic-merge", &with("nginx:2")).await;
    assert_eq!((code, images(&got)), (200, vec!["c=nginx:2".to_owned()]), "{got}");
    let delete = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "d", "image": "x"}, {"name": "c", "$patch": "delete"}]}}}});
    let (_, got) = c.patch(&path, "strategic-merge", &delete).await;
    assert_eq!(images(&got), ["d=x"], "{got}");
    let (_, got) = c.patch(&path, "json", &json!([{"op": "replace", "path": "/spec/replicas", "value": 4}])).await;
    assert_eq!(got["spec"]["replicas"], 4);
    let (_, got) = c.patch(&path, "merge", &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(got["metadata"]["labels"]["x"], "y");

    let (code, scale) = c.get(&format!("{path}/scale")).await;
    assert_eq!((code, &scale["kind"], &scale["spec"]["replicas"]), (200, &json!("Scale"), &json!(4)));
    let (code, scale) = c.patch(&format!("{path}/scale"), "merge", &json!({"spec": {"replicas": 6}})).await;
    assert_eq!((code, &scale["spec"]["replicas"], &scale["status"]["selector"]), (200, &json!(6), &json!("app=web")));
    assert_eq!(c.get(&path).await.1["spec"]["replicas"], 6);
    // A mistyped number must not come to count as none.
    for wrong in [json!("4"), json!(1.5), json!(true)] {
        let (code, refused) = c.patch(&format!("{path}/scale"), "merge", &json!({"spec": {"replicas": wrong}})).await;
        assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "{refused}");
    }
    assert_eq!(c.get(&path).await.1["spec"]["replicas"], 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_that_do_not_fit() {
    let h = Harness::start().await;
    let c = h.admin();
    c.post(DEPLOYMENTS, &deployment("web")).await;
    let check = async |query: &str, kind: &str, body: &str, expected: (u16, &str)| {
        let content_type = format!("application/{kind}-patch+json");
        let path = format!("{DEPLOYMENTS}/web?{query}");
        let (code, status) = c.send(http::Method::PATCH, &path, &content_type, body.as_bytes().to_vec()).await;
        let message = status["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(code, expected.0, "{body}: {message}");
        assert!(message.contains(expected.1), "{body}: {message}");
    };
    let strict = "fieldValidation=Strict";
    let unknown = r#" "" is invalid: patch: Invalid value: "map[spec:map[replicaz:1]]": strict decoding error: unknown field "spec.replicaz""#;
    check(strict, "strategic-merge", r#"{"spec": {"replicaz": 1}}"#, (422, unknown)).await;
    check("", "strategic-merge", r#"{"spec": {"replicas": "x"}}"#, (422, "unrecognized type: int32")).await;
    check("", "merge", r#"{"spec": {"replicas": "x"}}"#, (422, "json: cannot unmarshal string")).await;
    let twice = r#"{"spec": {"replicas": 1, "replicas": 2}}"#;
    check(strict, "merge", twice, (422, r#"duplicate field "spec.replicas""#)).await;
    check("force=true", "merge", "{}", (422, "force: Forbidden: may not be specified for non-apply patch")).await;
    check("", "strategic-merge", "{", (400, "unexpected end of JSON input")).await;
    check("", "json", "{}", (400, "cannot unmarshal object into Go value of type jsonpatch.Patch")).await;
    check("", "json", r#"[{"op": "bogus", "path": "/a"}]"#, (422, "the server rejected our request")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_without_a_version_never_lose() {
    const CLIENTS: usize = 12;
    const WRITES: usize = 12;
    let h = Harness::start().await;
    let c = h.admin();
    c.post(MAPS, &config_map("busy", json!({}))).await;
    let writers = (0..CLIENTS).map(|n| {
        let c = h.admin();
        async move {
            for i in 0..WRITES {
                let patch = json!({"data": {format!("{n}-{i}"): "x"}});
                assert_eq!(c.patch(&format!("{MAPS}/busy"), "strategic-merge", &patch).await.0, 200);
            }
        }
    });
    futures::future::join_all(writers).await;
    let (_, busy) = c.get(&format!("{MAPS}/busy")).await;
    assert_eq!(busy["data"].as_object().map(serde_json::Map::len), Some(CLIENTS * WRITES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_waits_for_grace_and_finalizers() {
    let h = Harness::start().await;
    let c = h.admin();
    // Unscheduled: gone at once.
    c.post(PODS, &pod("a")).await;
    assert_eq!(c.delete(&format!("{PODS}/a"), &json!({})).await.0, 200);
    assert_eq!(c.get(&format!("{PODS}/a")).await.0, 404);

    // Bound: marked first, gone when its kubelet says so.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    assert_eq!(c.post("/api/v1/nodes", &node).await.0, 201);
    c.post(PODS, &pod("b")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "b"}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(c.post(&format!("{PODS}/b/binding"), &binding).await.0, 201);
    let (code, again) = c.post(&format!("{PODS}/b/binding"), &binding).await;
    let words = r#"Operation cannot be fulfilled on pods/binding "b": pod b is already assigned to node "n1""#;
    assert_eq!((code, &again["message"]), (409, &json!(words)));
    let (_, marked) = c.delete(&format!("{PODS}/b"), &json!({})).await;
    let metadata = &marked["metadata"];
    assert_eq!(
        (metadata["deletionTimestamp"].is_string(), &metadata["deletionGracePeriodSeconds"]),
        (true, &json!(30))
    );
    let (_, shorter) = c.delete(&format!("{PODS}/b"), &json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    c.delete(&format!("{PODS}/b"), &json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(c.get(&format!("{PODS}/b")).await.0, 404);

    // Held by a finalizer until that is taken off.
    let mut held = config_map("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    c.post(MAPS, &held).await;
    let (code, _) = c.delete(&format!("{MAPS}/held"), &json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(code, 202);
    let (_, marked) = c.get(&format!("{MAPS}/held")).await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["example.com/hold", "foregroundDeletion"]));
    let (code, _) = c.patch(&format!("{MAPS}/held"), "merge", &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!((code, c.get(&format!("{MAPS}/held")).await.0), (200, 404));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_in_pages_tables_and_selections() {
    let h = Harness::start().await;
    let c = h.admin();
    for i in 0..7 {
        let mut map = config_map(&format!("m{i}"), json!({}));
        map["metadata"]["labels"] = json!({"half": if i < 3 { "low" } else { "high" }});
        c.post(MAPS, &map).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)).collect()
    };
    // Pages are all of the first page's revision, whatever happens in between.
    let (_, first) = c.get(&format!("{MAPS}?limit=3")).await;
    assert_eq!(names(&first), ["m0", "m1", "m2"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    let item = &first["items"][0];
    assert_eq!((item.get("kind"), item.get("apiVersion"), &first["kind"]), (None, None, &json!("ConfigMapList")));
    c.delete(&format!("{MAPS}/m4"), &json!({})).await;
    let mut seen = names(&first);
    let mut token = first["metadata"]["continue"].clone();
    while let Some(next) = token.as_str().map(str::to_owned) {
        let (code, page) = c.get(&format!("{MAPS}?limit=3&continue={next}")).await;
        assert_eq!(
            (code, &page["metadata"]["resourceVersion"]),
            (200, &first["metadata"]["resourceVersion"]),
            "{page}"
        );
        seen.extend(names(&page));
        token = page["metadata"]["continue"].clone();
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);

    assert_eq!(names(&c.get(&format!("{MAPS}?labelSelector=half%3Dlow")).await.1), ["m0", "m1", "m2"]);
    assert_eq!(names(&c.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm5")).await.1), ["m5"]);
    assert_eq!(c.get(&format!("{MAPS}?fieldSelector=spec.nope%3D1")).await.0, 400);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let (_, _, table) = c.exchange(http::Method::GET, MAPS, &table, Vec::new()).await;
    assert_eq!((&table["kind"], table["rows"].as_array().map(Vec::len)), (&json!("Table"), Some(6)));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");

    let (code, _) = c.delete(&format!("{MAPS}?labelSelector=half%3Dhigh"), &json!({})).await;
    assert_eq!((code, names(&c.get(MAPS).await.1)), (200, vec!["m0".into(), "m1".into(), "m2".into()]));
}

/// Who names a version may lose to others, and must win now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_a_version_get_through_among_those_of_none() {
    const WANTED: u64 = 5;
    let h = Harness::start().await;
    let c = h.admin();
    let path = format!("{MAPS}/shared");
    c.post(MAPS, &config_map("shared", json!({"count": "0"}))).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let patcher = async |n: usize| {
        let mut round = 0_u64;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            round += 1;
            let patch = json!({"data": {format!("patcher-{n}"): round.to_string()}});
            assert_eq!(c.patch(&path, "merge", &patch).await.0, 200);
        }
    };
    let counter = async {
        let mut count = 0;
        while count < WANTED {
            let (_, mut map) = c.get(&path).await;
            map["data"]["count"] = (count + 1).to_string().into();
            match c.put(&path, &map).await.0 {
                200 => count += 1,
                code => assert_eq!(code, 409),
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let all = async { tokio::join!(counter, patcher(1), patcher(2), patcher(3)) };
    tokio::time::timeout(std::time::Duration::from_secs(120), all).await.expect("the counter gets through");
    assert_eq!(c.get(&path).await.1["data"]["count"], WANTED.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_deprecated_kind_are_warned() {
    let h = Harness::start().await;
    let warning = async |path: &str| {
        let (code, headers, _) = h.admin().exchange(http::Method::GET, path, &[], Vec::new()).await;
        assert_eq!(code, 200, "{path}");
        headers.get("warning").map(|w| w.to_str().expect("text").to_owned())
    };
    let expected = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!(warning("/api/v1/namespaces/default/endpoints").await.as_deref(), Some(expected));
    assert_eq!(warning(MAPS).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_names_a_runtime_class_that_exists() {
    let h = Harness::start().await;
    let c = h.admin();
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "vm"},
        "spec": {"runtimeClassName": "kata", "containers": [{"name": "c", "image": "i"}]},
    });
    let (code, refused) = c.post(pods, &pod).await;
    let why = "pods \"vm\" is forbidden: pod rejected: RuntimeClass \"kata\" not found";
    assert_eq!((code, refused["message"].as_str()), (403, Some(why)));
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"}, "handler": "kata",
        "overhead": {"podFixed": {"cpu": "250m"}},
    });
    assert_eq!(c.post("/apis/node.k8s.io/v1/runtimeclasses", &class).await.0, 201);
    let (code, created) = c.post(pods, &pod).await;
    assert_eq!((code, &created["spec"]["overhead"]["cpu"]), (201, &json!("250m")), "{created}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_get_addresses_and_give_them_back() {
    let h = Harness::with_flags(&["--service-cluster-ip-range=10.96.0.0/29"]).await;
    let c = h.admin();
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: Option<&str>| {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}], "selector": {"app": name}},
        });
        if let Some(ip) = ip {
            service["spec"]["clusterIP"] = ip.into();
        }
        service
    };
    // Six addresses, one of them taken by the kubernetes service.
    for i in 0..5 {
        assert_eq!(c.post(path, &service(&format!("s{i}"), None)).await.0, 201, "{i}");
    }
    let (code, full) = c.post(path, &service("more", None)).await;
    assert!(code >= 400 && full["message"].as_str().is_some_and(|m| m.contains("range is full")), "{full}");
    let ip = c.get(&format!("{path}/s3")).await.1["spec"]["clusterIP"].clone();
    assert!(ip.as_str().is_some_and(|ip| ip.starts_with("10.96.0.")), "{ip}");
    let (code, taken) = c.post(path, &service("other", ip.as_str())).await;
    assert!(code == 422 && taken["message"].as_str().is_some_and(|m| m.contains("already allocated")), "{taken}");
    let (code, outside) = c.post(path, &service("out", Some("10.0.0.1"))).await;
    assert!(
        code == 422 && outside["message"].as_str().is_some_and(|m| m.contains("not in the valid range")),
        "{outside}"
    );
    c.delete(&format!("{path}/s3"), &json!({})).await;
    assert_eq!(c.post(path, &service("other", ip.as_str())).await.0, 201);
    assert_eq!(c.post(path, &service("none", Some("None"))).await.1["spec"]["clusterIPs"], json!(["None"]));
    // The ones made here, and what is given does not change by an update.
    let (_, other) = c.patch(&format!("{path}/other"), "merge", &json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(other["spec"]["clusterIP"], ip);
    assert!(other["spec"]["ports"][0]["nodePort"].as_u64().is_some_and(|p| (30000..=32767).contains(&p)), "{other}");
}
