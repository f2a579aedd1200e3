//! The scheduler as a whole, against an API server reduced to lists, watches and a log of writes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::CancellationToken;
use futures::channel::mpsc;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use scheduler::core::Core;
use scheduler::metrics::Metrics;
use scheduler::queue::Backoff;
use scheduler::scheduler::{Shared, run};
use scheduler::writer::Writer;
use scheduling::Profile;
use serde_json::{Value, json};
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(20);

type Frame = Result<http_body::Frame<Bytes>, Infallible>;
type Answer = Response<StreamBody<mpsc::UnboundedReceiver<Frame>>>;

#[derive(Default)]
struct State {
    /// Objects by plural and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    watchers: Vec<(String, mpsc::UnboundedSender<Frame>)>,
    writes: Vec<(String, Value)>,
    down: bool,
}

/// Keeps what it is told, tells watchers, and remembers writes.
#[derive(Clone, Default)]
struct Api(Arc<(Mutex<State>, Notify)>);

fn frame(value: &Value) -> Frame {
    Ok(http_body::Frame::data(Bytes::from(format!("{value}\n"))))
}

fn answer(code: u16, value: &Value) -> Answer {
    let (sender, receiver) = mpsc::unbounded();
    sender.unbounded_send(frame(value)).expect("the receiver is here");
    Response::builder().status(code).body(StreamBody::new(receiver)).expect("a valid response")
}

fn status(code: u16, status: &str, reason: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": status, "code": code, "reason": reason, "message": reason,
    });
    answer(code, &body)
}

impl Api {
    fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.0.0.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (plural.to_owned(), format!("{}/{}", text("namespace"), text("name")));
        let kind = if state.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        let event = json!({"type": kind, "object": object});
        state.objects.insert(key, object);
        state.watchers.retain(|(watched, sender)| watched != plural || sender.unbounded_send(frame(&event)).is_ok());
    }

    /// Cuts every watch; until it is up again, every request fails.
    fn set_down(&self, down: bool) {
        let mut state = self.0.0.lock();
        state.down = down;
        state.watchers.clear();
    }

    async fn serve(self, request: Request<Body>) -> Result<Answer, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        if self.0.0.lock().down {
            self.0.0.lock().writes.push((format!("REFUSED {path}"), Value::Null));
            self.0.1.notify_waiters();
            return Ok(status(503, "Failure", "ServiceUnavailable"));
        }
        if parts.method == http::Method::GET {
            let query: BTreeMap<&str, &str> =
                parts.uri.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('=')).collect();
            let since = query.get("resourceVersion").and_then(|v| v.parse().ok());
            let since = query.contains_key("watch").then_some(since.unwrap_or(0));
            return Ok(self.read(path.rsplit('/').next().unwrap_or_default(), since));
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(self.write(&format!("{} {path}", parts.method), body))
    }

    /// A list, or a watch from a version on.
    fn read(&self, plural: &str, watch: Option<u64>) -> Answer {
        let mut state = self.0.0.lock();
        if plural == "poddisruptionbudgets" {
            return status(404, "Failure", "NotFound");
        }
        if let Some(since) = watch {
            let (sender, receiver) = mpsc::unbounded();
            let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
            for object in state.objects.iter().filter(|((p, _), _)| p == plural).map(|(_, object)| object) {
                if version(object).is_some_and(|version: u64| version > since) {
                    let event = json!({"type": "MODIFIED", "object": object});
                    sender.unbounded_send(frame(&event)).expect("the receiver is here");
                }
            }
            state.watchers.push((plural.to_owned(), sender));
            return Response::new(StreamBody::new(receiver));
        }
        let of_kind = state.objects.iter().filter(|((p, _), _)| p == plural);
        let items: Vec<&Value> = of_kind.map(|(_, object)| object).collect();
        answer(200, &json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}))
    }

    fn write(&self, what: &str, body: Value) -> Answer {
        self.0.0.lock().writes.push((what.to_owned(), body.clone()));
        let parts: Vec<&str> = what.split('/').collect();
        if let ["POST ", "api", "v1", "namespaces", namespace, "pods", name, "binding"] = parts[..] {
            let key = ("pods".to_owned(), format!("{namespace}/{name}"));
            let mut pod = self.0.0.lock().objects[&key].clone();
            pod["spec"]["nodeName"] = body["target"]["name"].clone();
            self.put("pods", pod);
        }
        self.0.1.notify_waiters();
        status(201, "Success", "")
    }

    /// Waits for a write whose method and path start so, and whose body passes.
    async fn written(&self, what: &str, passes: impl Fn(&Value) -> bool) -> Value {
        let find = || {
            let state = self.0.0.lock();
            state.writes.iter().find(|(w, body)| w.starts_with(what) && passes(body)).map(|(_, body)| body.clone())
        };
        let wait = async {
            loop {
                let notified = self.0.1.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                match find() {
                    Some(body) => return body,
                    None => notified.await,
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, wait).await;
        found.unwrap_or_else(|_| panic!("no {what} among {:#?}", self.0.0.lock().writes))
    }
}

fn node(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"}}})
}

fn pod(name: &str, cpu: &str, priority: i32) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

struct Running {
    token: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    shared: Arc<Shared>,
}

async fn start(api: &Api) -> Running {
    let serving = api.clone();
    let client = kube::Client::new(tower::service_fn(move |request| serving.clone().serve(request)), "default");
    let metrics = Metrics::new(&daemon::metrics::Metrics::default());
    let shared = Shared::new(Core::new(vec![Profile::default()], Backoff::default(), 7, metrics));
    let token = CancellationToken::new();
    let informers = scheduler::informers::start(&client, &shared, &token);
    tokio::time::timeout(DEADLINE, informers.synced()).await.expect("synced although budgets are not served");
    let writer = Arc::new(Writer::new(client, ["default-scheduler"].into_iter(), None));
    let task = tokio::spawn(run(shared.clone(), writer, token.clone()));
    Running { token, task, shared }
}

impl Running {
    async fn stop(self) {
        self.token.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it drains").expect("it does not panic");
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "POST /api/v1/namespaces/default/events";

#[tokio::test]
async fn a_pod_is_bound_and_told_so() {
    let api = Api::default();
    api.put("nodes", node("node-1", "1"));
    let running = start(&api).await;
    api.put("pods", pod("x", "100m", 0));
    let binding = api.written(&format!("POST {PODS}/x/binding"), |_| true).await;
    assert_eq!(binding["target"]["name"], "node-1");
    assert_eq!(binding["metadata"]["uid"], "uid-x");
    let event = api.written(EVENTS, |e| e["reason"] == "Scheduled").await;
    assert_eq!(event["message"], "Successfully assigned default/x to node-1");
    assert_eq!(event["source"]["component"], "default-scheduler");
    running.stop().await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_is_told_why_and_bound_when_it_fits() {
    let api = Api::default();
    api.put("nodes", node("small", "50m"));
    api.put("pods", pod("x", "100m", 0));
    let running = start(&api).await;
    let patch = api.written(&format!("PATCH {PODS}/x/status"), |_| true).await;
    let condition = &patch["status"]["conditions"][0];
    let message = "0/1 nodes are available: 1 Insufficient cpu. \
                   preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("False")));
    assert_eq!((&condition["reason"], &condition["message"]), (&json!("Unschedulable"), &json!(message)));
    let event = api.written(EVENTS, |e| e["reason"] == "FailedScheduling").await;
    assert_eq!((&event["type"], &event["message"]), (&json!("Warning"), &json!(message)));
    api.put("nodes", node("large", "1"));
    let binding = api.written(&format!("POST {PODS}/x/binding"), |_| true).await;
    assert_eq!(binding["target"]["name"], "large");
    running.stop().await;
}

#[tokio::test]
async fn a_victim_is_marked_then_deleted() {
    let api = Api::default();
    api.put("nodes", node("n", "1"));
    let mut low = pod("low", "800m", 1);
    low["spec"]["nodeName"] = json!("n");
    api.put("pods", low);
    api.put("pods", pod("high", "800m", 9));
    let running = start(&api).await;
    let nominated = |p: &Value| p["status"]["nominatedNodeName"] == "n";
    api.written(&format!("PATCH {PODS}/high/status"), nominated).await;
    let deletion = api.written(&format!("DELETE {PODS}/low"), |_| true).await;
    assert_eq!(deletion["preconditions"]["uid"], "uid-low");
    let marked = api.written(&format!("PATCH {PODS}/low/status"), |_| true).await;
    assert_eq!(marked["status"]["conditions"][0]["reason"], "PreemptionByScheduler");
    let event = api.written(EVENTS, |e| e["reason"] == "Preempted").await;
    assert_eq!(event["message"], "Preempted by pod uid-high on node n");
    running.stop().await;
}

#[tokio::test]
async fn an_outage_is_survived() {
    let api = Api::default();
    api.put("nodes", node("n", "1"));
    let running = start(&api).await;
    api.put("pods", pod("a", "100m", 0));
    api.written(&format!("POST {PODS}/a/binding"), |_| true).await;
    api.set_down(true);
    api.put("nodes", node("n", "2"));
    api.put("pods", pod("b", "1500m", 0));
    api.written("REFUSED /api/v1/pods", |_| true).await;
    api.set_down(false);
    api.written(&format!("POST {PODS}/b/binding"), |_| true).await;
    assert!(running.shared.core.lock().snapshot.node("n").is_some_and(|n| n.allocatable.milli_cpu == 2000));
    running.stop().await;
}
