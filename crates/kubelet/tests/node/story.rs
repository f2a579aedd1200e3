//! The steps, in order; each says what a user would see.

use std::future::Future;
use std::time::Instant;

use futures::{SinkExt, StreamExt};
use kubelet::streaming::spdy::{self, Decoder, Encoder, Frame};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::api::Api;
use crate::client::Client;
use crate::env::{DEADLINE, Env, NODE};

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(since.elapsed() < DEADLINE, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn pods(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

fn status(api: &Api, name: &str) -> Option<Value> {
    Some(api.get(&pods(name))?["status"]["containerStatuses"][0].clone()).filter(|s| !s.is_null())
}

async fn ready(api: &Api, name: &str) -> Value {
    let look = || async { api.get(&pods(name)).filter(|p| p["status"]["containerStatuses"][0]["ready"] == true) };
    eventually(&format!("{name} is ready"), look).await
}

fn create(api: &Api, name: &str, mut spec: Value) {
    spec["nodeName"] = json!(NODE);
    spec["terminationGracePeriodSeconds"] = json!(1);
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}}, "spec": spec});
    api.put(&pods(name), pod);
}

fn event(api: &Api, pod: &str, reason: &str) -> Option<String> {
    let about = |e: &Value| e["involvedObject"]["name"] == pod && e["reason"] == reason;
    api.list("/api/v1/namespaces/default/events")
        .into_iter()
        .find(about)
        .map(|e| e["message"].as_str().unwrap_or_default().to_owned())
}

pub async fn run() {
    let (api, url) = Api::start().await;
    let mut env = Env::start(&url).await;
    let admin = Client::new(&env, Some(&env.client("admin", None)));
    node_registers(&api).await;
    static_pod_runs(&api, &env, &admin).await;
    the_api_is_closed(&env).await;
    exec_streams(&admin).await;
    port_forward(&admin).await;
    projections_follow(&api, &admin).await;
    crashes_back_off(&api).await;
    probes_decide(&api).await;
    a_lost_sandbox_is_replaced(&api, &env).await;
    a_pod_that_never_restarts_fails_with_its_sandbox(&api, &env).await;
    a_restart_touches_nothing(&api, &mut env, &admin).await;
    deletion_leaves_nothing(&api, &env, &admin).await;
}

async fn node_registers(api: &Api) {
    let node = eventually("the node is Ready", || async {
        let node = api.get(&format!("/api/v1/nodes/{NODE}"))?;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|c| c["type"] == "Ready" && c["reason"] == "KubeletReady").then_some(node)
    })
    .await;
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], NODE);
    assert!(
        node["status"]["nodeInfo"]["containerRuntimeVersion"].as_str().is_some_and(|v| v.starts_with("containerd://"))
    );
    eventually("a lease", || async {
        api.get(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}"))
    })
    .await;
}

async fn static_pod_runs(api: &Api, env: &Env, admin: &Client) {
    let manifest = r#"apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: docker.io/library/tool:1
    command: [sh, -c, "echo first; echo second; mkdir /www; echo page > /www/index.html; exec httpd -f -p 8080 -h /www"]
"#;
    std::fs::write(env.path("manifests/web.yaml"), manifest).expect("writable");
    let pod = ready(api, "web-test-node").await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert!(pod["status"]["podIP"].as_str().is_some_and(|ip| ip.starts_with("10.88.0.")), "{pod}");
    assert!(
        pod["status"]["containerStatuses"][0]["containerID"].as_str().is_some_and(|id| id.starts_with("containerd://"))
    );
    let logs = "/containerLogs/default/web-test-node/c";
    eventually("both lines", || async { (admin.get(logs).await == (200, "first\nsecond\n".into())).then_some(()) })
        .await;
    assert_eq!(admin.get(&format!("{logs}?tailLines=1")).await, (200, "second\n".into()));
    assert_eq!(admin.get(&format!("{logs}?previous=true")).await.0, 400);
    assert_eq!(admin.get("/containerLogs/default/web-test-node/nope").await.0, 404);
    let started = eventually("a Started event", || async { event(api, "web-test-node", "Started") }).await;
    assert_eq!(started, "Started container c");
    let present = event(api, "web-test-node", "Pulled").expect("told before it was created");
    assert_eq!(present, "Container image \"docker.io/library/tool:1\" already present on machine");
    let (status, summary) = admin.get("/stats/summary").await;
    assert!(status == 200 && summary.contains("web-test-node"), "{summary}");
}

async fn the_api_is_closed(env: &Env) {
    let nobody = Client::new(env, None);
    assert_eq!(nobody.get("/pods").await, (401, "Unauthorized".into()));
    let stranger = Client::new(env, Some(&env.client("stranger", None)));
    let (status, text) = stranger.get("/pods").await;
    assert_eq!(
        (status, text.as_str()),
        (403, "Forbidden (user=stranger, verb=get, resource=nodes, subresource(s)=[pods proxy])")
    );
}

async fn exec_streams(admin: &Client) {
    let (out, _, status) = admin.exec("web-test-node", &["cat"], Some(b"through stdin")).await;
    assert_eq!((out.as_str(), &status["status"]), ("through stdin", &json!("Success")));
    let (out, err, status) = admin.exec("web-test-node", &["sh", "-c", "echo out; echo err >&2; exit 7"], None).await;
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "7", "{status}");
}

async fn port_forward(admin: &Client) {
    let mut socket = admin.websocket("/portForward/default/web-test-node", "SPDY/3.1+portforward.k8s.io").await;
    let mut encoder = Encoder::default();
    for (stream, kind) in [(1, "error"), (3, "data")] {
        let headers = [("port", "8080"), ("requestid", "0"), ("streamtype", kind)];
        let frame = encoder.syn_stream(stream, &headers, kind == "error");
        socket.send(Message::Binary(frame)).await.expect("sent");
    }
    let request = spdy::data(3, b"GET /index.html HTTP/1.0\r\n\r\n", true);
    socket.send(Message::Binary(request)).await.expect("sent");
    let (mut decoder, mut answer) = (Decoder::default(), Vec::new());
    'read: while let Some(Ok(message)) = socket.next().await {
        decoder.buffer().extend_from_slice(&message.into_data());
        while let Some(frame) = decoder.next_frame().expect("SPDY") {
            if let Frame::Data { stream: 3, data, fin } = frame {
                answer.extend_from_slice(&data);
                if fin {
                    break 'read;
                }
            }
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1") && answer.ends_with("page\n"), "{answer}");
}

async fn projections_follow(api: &Api, admin: &Client) {
    let map = "/api/v1/namespaces/default/configmaps/settings";
    let data =
        |value: &str| json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"color": value}});
    api.put(map, data("red"));
    create(
        api,
        "config",
        json!({
        "containers": [{"name": "c", "image": "docker.io/library/tool:1", "command": ["sleep", "3600"],
            "env": [{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                    {"name": "TEXT", "value": "$(COLOR) pod"}],
            "volumeMounts": [{"name": "settings", "mountPath": "/settings"}, {"name": "token", "mountPath": "/token"},
                {"name": "scratch", "mountPath": "/part", "subPath": "a/b"}]}],
        "volumes": [{"name": "settings", "configMap": {"name": "settings"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}]}),
    );
    ready(api, "config").await;
    let read = |script: &'static str| async move { admin.exec("config", &["sh", "-c", script], None).await.0 };
    assert_eq!(
        read("cat /settings/color /token/t /token/labels; echo; echo $TEXT").await,
        "reda-tokenapp=\"config\"\nred pod\n"
    );
    assert_eq!(read("echo x > /part/f && cat /part/f").await, "x\n");
    api.put(map, data("blue"));
    eventually("the file follows", || async { (read("cat /settings/color").await == "blue").then_some(()) }).await;
}

async fn crashes_back_off(api: &Api) {
    create(
        api,
        "crash",
        json!({"containers": [{"name": "c", "image": "docker.io/library/tool:1",
        "command": ["sh", "-c", "echo bye > /dev/termination-log; exit 3"]}]}),
    );
    let container = eventually("a crash loop", || async {
        status(api, "crash").filter(|s| s["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    })
    .await;
    let message = container["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=crash_default("), "{message}");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(container["lastState"]["terminated"]["message"], "bye\n");
    assert_eq!(container["restartCount"], 1);
    create(
        api,
        "absent",
        json!({"containers": [{"name": "c", "image": "docker.io/library/absent:1", "imagePullPolicy": "Never"}]}),
    );
    eventually("ErrImageNeverPull", || async {
        status(api, "absent").filter(|s| s["state"]["waiting"]["reason"].as_str().is_some_and(|r| r.contains("Image")))
    })
    .await;
}

async fn probes_decide(api: &Api) {
    create(
        api,
        "probed",
        json!({"containers": [{"name": "c", "image": "docker.io/library/tool:1",
        "command": ["sh", "-c", "mkdir /www; exec httpd -f -p 8081 -h /www"],
        "readinessProbe": {"tcpSocket": {"port": 8081}, "periodSeconds": 1},
        "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1}}]}),
    );
    eventually("a restart by liveness", || async { status(api, "probed").filter(|s| s["restartCount"] == 1) }).await;
    let message = eventually("an Unhealthy event", || async { event(api, "probed", "Unhealthy") }).await;
    assert!(message.contains("probe failed:"), "{message}");
    eventually("a Killing event", || async { event(api, "probed", "Killing") }).await;
}

async fn a_lost_sandbox_is_replaced(api: &Api, env: &Env) {
    let command = json!(["sleep", "3600"]);
    create(
        api,
        "lost",
        json!({"containers": [{"name": "c", "image": "docker.io/library/tool:1", "command": command}]}),
    );
    ready(api, "lost").await;
    for losses in 1..=2 {
        env.kill_sandbox("lost");
        let look = || async { status(api, "lost").filter(|s| s["restartCount"] == losses && s["ready"] == true) };
        eventually(&format!("the container is back after {losses} losses"), look).await;
    }
    let changed = eventually("an event", || async { event(api, "lost", "SandboxChanged") }).await;
    assert_eq!(changed, "Pod sandbox changed, it will be killed and re-created.");
    assert_eq!(event(api, "lost", "BackOff"), None, "a lost sandbox is not the container's fault");
}

async fn a_pod_that_never_restarts_fails_with_its_sandbox(api: &Api, env: &Env) {
    create(
        api,
        "once",
        json!({"restartPolicy": "Never", "containers": [
            {"name": "c", "image": "docker.io/library/tool:1", "command": ["sleep", "3600"]}]}),
    );
    ready(api, "once").await;
    env.kill_sandbox("once");
    let failed = || async { api.get(&pods("once")).filter(|p| p["status"]["phase"] == "Failed") };
    let pod = eventually("the pod failed", failed).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(event(api, "once", "SandboxChanged"), None);
}

async fn a_restart_touches_nothing(api: &Api, env: &mut Env, admin: &Client) {
    let before = status(api, "config").expect("a status")["containerID"].clone();
    let served = status(api, "web-test-node").expect("a status")["containerID"].clone();
    env.kill_kubelet();
    env.start_kubelet();
    let listed = eventually("the pods are back", || async {
        let (_, text) = admin.get("/pods").await;
        let list: Value = serde_json::from_str(&text).ok()?;
        let items = list["items"].as_array()?.clone();
        let running = |name: &str| {
            items.iter().any(|p| p["metadata"]["name"] == name && p["status"]["containerStatuses"][0]["ready"] == true)
        };
        (running("config") && running("web-test-node")).then_some(items)
    })
    .await;
    for (name, id) in [("config", before), ("web-test-node", served)] {
        let pod = listed.iter().find(|p| p["metadata"]["name"] == name).expect("listed");
        let container = &pod["status"]["containerStatuses"][0];
        assert_eq!((&container["containerID"], &container["restartCount"]), (&id, &json!(0)), "{name}");
    }
    assert_eq!(admin.exec("config", &["cat", "/settings/color"], None).await.0, "blue");
}

async fn deletion_leaves_nothing(api: &Api, env: &Env, admin: &Client) {
    for name in ["config", "crash", "absent", "probed", "lost", "once"] {
        let mut pod = api.get(&pods(name)).expect("there");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(1);
        api.put(&pods(name), pod);
    }
    std::fs::remove_file(env.path("manifests/web.yaml")).expect("there");
    for name in ["config", "crash", "absent", "probed", "lost", "once", "web-test-node"] {
        eventually(&format!("{name} is gone"), || async { api.get(&pods(name)).is_none().then_some(()) }).await;
    }
    eventually("no pod left", || async { admin.get("/pods").await.1.contains("\"items\":[]").then_some(()) }).await;
    eventually("no cgroup left", || async { env.pod_cgroups().is_empty().then_some(()) }).await;
    let left = |dir: &str| std::fs::read_dir(env.path(dir)).map_or(0, Iterator::count);
    assert_eq!((left("kubelet/pods"), left("logs")), (0, 0));
}
