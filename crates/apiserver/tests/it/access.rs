//! Tokens, access reviews, roles, escalation, impersonation and what a node may do.

use serde_json::{Value, json};

use crate::harness::{Client, Harness, pod};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ACCOUNT: &str = "/api/v1/namespaces/default/serviceaccounts/default";

fn binding(kind: &str, name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

async fn token(c: &Client, bound: Value) -> (u16, Value) {
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}});
    c.post(&format!("{ACCOUNT}/token"), &request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lives_as_long_as_what_it_is_bound_to() {
    let h = Harness::start().await;
    let c = h.admin();
    let (code, made) = c.post("/api/v1/namespaces/default/pods", &pod("p")).await;
    assert_eq!(code, 201, "{made}");
    let volume = &made["spec"]["volumes"][0];
    assert!(volume["name"].as_str().is_some_and(|n| n.starts_with("kube-api-access-")), "{volume}");
    let (code, made) = token(&c, json!({"kind": "Pod", "apiVersion": "v1", "name": "p"})).await;
    assert_eq!(code, 201, "{made}");
    let token_text = made["status"]["token"].as_str().expect("a token");
    let account = h.bearer(token_text);
    let (_, me) = account.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await;
    let user = &me["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token_text}});
    let (_, review) = c.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(review["status"]["authenticated"], true);
    c.delete("/api/v1/namespaces/default/pods/p", &json!({})).await;
    assert_eq!(account.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.0, 401);
    // Keys and issuer are there for others to check tokens with.
    assert_eq!(h.user("x", None).get("/openid/v1/jwks").await.0, 403);
    assert_eq!(c.get("/openid/v1/jwks").await.1["keys"][0]["kty"], "EC");
}

/// As the controller manager makes them.
fn legacy_token(h: &Harness, account_uid: &str) -> String {
    let claims = json!({
        "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:default",
        "kubernetes.io/serviceaccount/namespace": "default",
        "kubernetes.io/serviceaccount/secret.name": "t",
        "kubernetes.io/serviceaccount/service-account.name": "default",
        "kubernetes.io/serviceaccount/service-account.uid": account_uid,
    });
    let key = jsonwebtoken::EncodingKey::from_ec_pem(&h.signing_key()).expect("an ECDSA key");
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    jsonwebtoken::encode(&header, &claims, &key).expect("signed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_a_secret_lives_as_long_as_the_secret() {
    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    let h = Harness::start().await;
    let c = h.admin();
    let (_, account) = c.get(ACCOUNT).await;
    let text = legacy_token(&h, account["metadata"]["uid"].as_str().expect("a uid"));
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"},
        "type": "kubernetes.io/service-account-token", "stringData": {"token": text},
    });
    let (code, refusal) = c.post(SECRETS, &secret).await;
    let why = "metadata.annotations[kubernetes.io/service-account.name]: Required value";
    assert!(code == 422 && refusal["message"].as_str().is_some_and(|m| m.contains(why)), "{refusal}");
    let bearer = h.bearer(&text);
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    assert_eq!(bearer.post(reviews, &json!({})).await.0, 401, "no Secret carries it");
    secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    assert_eq!(c.post(SECRETS, &secret).await.0, 201);
    let (_, me) = bearer.post(reviews, &json!({})).await;
    assert_eq!(me["status"]["userInfo"]["username"], "system:serviceaccount:default:default", "{me}");
    c.delete(&format!("{SECRETS}/t"), &json!({})).await;
    assert_eq!(bearer.post(reviews, &json!({})).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_take_effect_at_once_and_are_not_exceeded() {
    let h = Harness::start().await;
    let (c, jane) = (h.admin(), h.user("jane", None));
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(jane.get(pods).await.0, 403);
    assert_eq!(
        c.post(&format!("{RBAC}/clusterrolebindings"), &binding("ClusterRoleBinding", "jane", "view", "jane")).await.0,
        201
    );
    let waited = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        while jane.get(pods).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the binding is seen");
    assert_eq!(jane.get("/api/v1/namespaces/default/secrets").await.0, 403);

    // An administrator of a namespace may hand on what she has, and no more.
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    c.post(&bindings, &binding("RoleBinding", "jane", "admin", "jane")).await;
    let mine = binding("RoleBinding", "joe", "edit", "joe");
    let waited = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        while jane.post(&bindings, &mine).await.0 == 403 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("she may bind what she holds");
    let (code, status) = jane.post(&bindings, &binding("RoleBinding", "all", "cluster-admin", "jane")).await;
    let words = status["message"].as_str().unwrap_or_default();
    assert_eq!(code, 403);
    assert!(words.contains(r#"user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:"#), "{words}");

    let ask = |user: &str| {
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": "default"}},
        })
    };
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(c.post(reviews, &ask("jane")).await.1["status"]["allowed"], true);
    assert_eq!(c.post(reviews, &ask("nobody")).await.1["status"]["allowed"], false);
    assert_eq!(jane.post(reviews, &ask("jane")).await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impersonation_is_authorized_part_by_part() {
    let h = Harness::start().await;
    let (c, jane) = (h.admin(), h.user("jane", None));
    let ask = |headers: Vec<(&'static str, &'static str)>| headers;
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let joe = ask(vec![("impersonate-user", "joe"), ("impersonate-group", "dev")]);
    let (code, _, who) = c.exchange(http::Method::POST, reviews, &joe, b"{}".to_vec()).await;
    assert_eq!((code, &who["status"]["userInfo"]["username"]), (201, &json!("joe")));
    assert_eq!(who["status"]["userInfo"]["groups"], json!(["dev", "system:authenticated"]));
    let (code, _, refused) = jane.exchange(http::Method::POST, reviews, &joe, b"{}".to_vec()).await;
    let words = r#"users "joe" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#;
    assert_eq!((code, &refused["message"]), (403, &json!(words)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_to_itself() {
    let h = Harness::start().await;
    let (c, n1) = (h.admin(), h.user("system:node:n1", Some("system:nodes")));
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let (code, made) = n1.post("/api/v1/nodes", &node("n1")).await;
    assert_eq!((code, &made["spec"]["taints"][0]["key"]), (201, &json!("node.kubernetes.io/not-ready")));
    let (code, status) = n1.post("/api/v1/nodes", &node("n2")).await;
    let words = r#"nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#;
    assert_eq!((code, &status["message"]), (403, &json!(words)));
    let (code, _) = n1.patch("/api/v1/nodes/n1/status", "merge", &json!({"status": {"phase": "Running"}})).await;
    assert_eq!(code, 200);
    c.post("/api/v1/namespaces/default/pods", &pod("p")).await;
    let (code, _) =
        n1.patch("/api/v1/namespaces/default/pods/p/status", "merge", &json!({"status": {"phase": "Running"}})).await;
    assert_eq!(code, 403);
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {"holderIdentity": name}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(n1.post(leases, &lease("n1")).await.0, 201);
    assert_eq!(n1.post(leases, &lease("n2")).await.0, 403);
}

/// Rights that look like another one's must not stand in for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_grants_no_other() {
    let h = Harness::start().await;
    let (c, joe) = (h.admin(), h.user("joe", None));
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods/exec", "pods"], "verbs": ["get"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["update"]},
    ]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "partial"}, "rules": rules});
    c.post(&format!("{RBAC}/clusterroles"), &role).await;
    c.post(&format!("{RBAC}/clusterrolebindings"), &binding("ClusterRoleBinding", "joe", "partial", "joe")).await;
    let waited = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        while joe.get("/api/v1/namespaces/default/pods/p").await.0 == 403 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the binding is seen");
    let check = |(code, status): (u16, Value), what: &str| {
        let message = status["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(code, 403, "{message}");
        assert!(message.contains(&format!("User \"joe\" cannot create resource \"{what}\"")), "{message}");
    };
    // A WebSocket is opened with GET.
    check(joe.get("/api/v1/namespaces/default/pods/p/exec?command=id&stdout=true").await, "pods/exec");
    // PUT makes what is not there.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "new"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/new";
    check(joe.put(path, &lease).await, "leases");
    assert_eq!(c.put(path, &lease).await.0, 201);
}
