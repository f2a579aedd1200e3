//! Bad input, each with upstream's code, reason and words.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Harness, config_map, deployment, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const NO_ROUTE: &str = "the server does not allow this method on the requested resource";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn check((code, status): (u16, Value), expected: (u16, &str, &str)) {
    assert_eq!(
        (code, status["reason"].as_str(), status["message"].as_str()),
        (expected.0, Some(expected.1), Some(expected.2))
    );
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Failure")));
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a path");
    object.pointer_mut(parent).expect("a parent")[field] = value;
    object
}

async fn bodies(c: &Client) {
    let unknown = with(deployment("d"), "/spec/replica", 1.into());
    check(
        c.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &unknown).await,
        (
            400,
            "BadRequest",
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica""#,
        ),
    );
    let name = with(config_map("x", json!({})), "/metadata/name", "Not_Valid".into());
    let words = "ConfigMap \"Not_Valid\" is invalid: metadata.name: Invalid value: \"Not_Valid\": a lowercase RFC 1123 \
                 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with \
                 an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    check(c.post(MAPS, &name).await, (422, "Invalid", words));
    let missing = with(pod("p"), "/spec", json!({}));
    check(c.post(PODS, &missing).await, (422, "Invalid", r#"Pod "p" is invalid: spec.containers: Required value"#));
    check(
        c.post(PODS, &deployment("d")).await,
        (
            400,
            "BadRequest",
            r#"Deployment in version "v1" cannot be handled as a Pod: converting (v1.Deployment) to (core.Pod): unknown conversion"#,
        ),
    );
    let nonsense = json!({"apiVersion": "v1", "kind": "Nonsense"});
    check(
        c.post(PODS, &nonsense).await,
        (
            400,
            "BadRequest",
            r#"Nonsense in version "v1" cannot be handled as a Pod: no kind "Nonsense" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
    );
    let elsewhere = with(config_map("x", json!({})), "/metadata/namespace", "other".into());
    check(
        c.post(MAPS, &elsewhere).await,
        (400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request"),
    );
    check(
        c.put(&format!("{MAPS}/y"), &config_map("x", json!({}))).await,
        (400, "BadRequest", "the name of the object (x) does not match the name on the URL (y)"),
    );
    let big = config_map("big", json!({"k": "x".repeat(3 << 20)}));
    check(c.post(MAPS, &big).await, (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"));
    check(
        c.send(Method::POST, MAPS, "text/html", b"<p>".to_vec()).await,
        (
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ),
    );
    let malformed = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
                     error: invalid character 'a' looking for beginning of object key string ({a: 1})";
    let body = b"{a: 1}".to_vec();
    check(c.send(Method::POST, MAPS, "application/json", body).await, (400, "BadRequest", malformed));
    assert_eq!(c.send(Method::POST, MAPS, "application/vnd.kubernetes.protobuf", b"{}".to_vec()).await.0, 400);
}

async fn objects(c: &Client) {
    c.post(DEPLOYMENTS, &deployment("web")).await;
    check(c.get(&format!("{DEPLOYMENTS}/nope")).await, (404, "NotFound", r#"deployments.apps "nope" not found"#));
    check(
        c.post(DEPLOYMENTS, &deployment("web")).await,
        (409, "AlreadyExists", r#"deployments.apps "web" already exists"#),
    );
    let (code, immutable) = c
        .patch(
            &format!("{DEPLOYMENTS}/web"),
            "merge",
            &json!({"spec": {"selector": {"matchLabels": {"app": "web", "x": "y"}}}}),
        )
        .await;
    assert!(
        code == 422 && immutable["message"].as_str().is_some_and(|m| m.contains("field is immutable")),
        "{immutable}"
    );
    let stale = with(c.get(&format!("{DEPLOYMENTS}/web")).await.1, "/metadata/resourceVersion", "1".into());
    check(
        c.put(&format!("{DEPLOYMENTS}/web"), &stale).await,
        (
            409,
            "Conflict",
            r#"Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again"#,
        ),
    );
    let other = json!({"preconditions": {"uid": "other"}});
    let (code, precondition) = c.delete(&format!("{DEPLOYMENTS}/web"), &other).await;
    assert_eq!((code, &precondition["reason"]), (409, &json!("Conflict")));
    check(
        c.post("/api/v1/namespaces/nowhere/configmaps", &config_map("x", json!({}))).await,
        (404, "NotFound", r#"namespaces "nowhere" not found"#),
    );
    check(
        c.delete("/api/v1/namespaces/kube-system", &json!({})).await,
        (403, "Forbidden", r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#),
    );
    c.post("/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}}))
        .await;
    c.delete("/api/v1/namespaces/going", &json!({})).await;
    check(
        c.post("/api/v1/namespaces/going/configmaps", &config_map("x", json!({}))).await,
        (
            403,
            "Forbidden",
            r#"configmaps "x" is forbidden: unable to create new content in namespace going because it is being terminated"#,
        ),
    );
    let (code, _) = c
        .put(
            "/api/v1/namespaces/going/finalize",
            &with(c.get("/api/v1/namespaces/going").await.1, "/spec/finalizers", json!([])),
        )
        .await;
    assert_eq!((code, c.get("/api/v1/namespaces/going").await.0), (200, 404));
    assert_eq!(c.get("/apis/apps/v1/namespaces/default/nonsense").await, (404, json!("404 page not found\n")));
}

async fn users(h: &Harness) {
    check(h.bearer("nonsense").get(PODS).await, (401, "Unauthorized", "Unauthorized"));
    check(h.stranger().get(PODS).await, (401, "Unauthorized", "Unauthorized"));
    check(h.veteran().get(PODS).await, (401, "Unauthorized", "Unauthorized"));
    check(
        h.nobody().get(PODS).await,
        (
            403,
            "Forbidden",
            r#"pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default""#,
        ),
    );
    check(
        h.user("jane", None).get("/api/v1/nodes/n1").await,
        (
            403,
            "Forbidden",
            r#"nodes "n1" is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope"#,
        ),
    );
    let (_, refused) = h.nobody().get("/metrics").await;
    assert_eq!(refused["details"], json!({}));
    check(
        h.nobody().get("/metrics").await,
        (403, "Forbidden", r#"forbidden: User "system:anonymous" cannot get path "/metrics""#),
    );
    assert_eq!(h.nobody().get("/healthz").await.0, 200);
}

/// Rights held in a namespace must not reach what belongs to no namespace.
async fn routes(c: &Client) {
    for path in ["nodes", "nodes/n1", "nodes/n1/status", "nodes/n1/proxy/pods", "clusterroles", "priorityclasses/a"] {
        let (code, _) = c.get(&format!("/api/v1/namespaces/default/{path}")).await;
        assert_eq!(code, 404, "{path}");
    }
    let (code, _) = c.get("/apis/rbac.authorization.k8s.io/v1/namespaces/default/clusterroles").await;
    assert_eq!(code, 404);
    assert_eq!(c.get("/api/v1/namespaces/default").await.0, 200);
    check(c.delete("/api/v1/namespaces?labelSelector=a%3Db", &json!({})).await, (405, "MethodNotAllowed", NO_ROUTE));
}

/// There are no definitions, and a client may see so; nobody is told that one was made.
async fn definitions(c: &Client) {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, list) = c.get(path).await;
    assert_eq!((code, &list["items"]), (200, &json!([])));
    let big = json!({"metadata": {"name": "x".repeat(1 << 20)}});
    check(c.post(path, &big).await, (405, "MethodNotAllowed", NO_ROUTE));
}

/// What kubectl falls back to for kinds it does not know, and a HEAD that must stay without a body on HTTP/2.
async fn documents(c: &Client) {
    let accept = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let (code, headers, _) = c.exchange(Method::GET, "/openapi/v2", &accept, Vec::new()).await;
    assert_eq!(code, 200);
    assert_eq!(headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    let (code, headers, body) = c.exchange(Method::HEAD, "/version", &[], Vec::new()).await;
    assert_eq!((code, body), (200, json!("")));
    assert_ne!(headers["content-length"], "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input() {
    let h = Harness::start().await;
    let c = h.admin();
    bodies(&c).await;
    objects(&c).await;
    users(&h).await;
    routes(&c).await;
    documents(&c).await;
    definitions(&c).await;
}
