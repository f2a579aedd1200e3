//! Requests for certificates: whose they are, and who may decide.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::Harness;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

pub fn request(name: &str, signer: &str, organization: &str) -> Value {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
    let key = rcgen::KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(pem), "signerName": signer,
            "usages": ["client auth"], "username": "somebody-else", "groups": ["system:masters"],
        },
    })
}

fn decided(kind: &str) -> Value {
    json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": "Checked"}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_its_creators_and_decided_by_those_who_may() {
    let h = Harness::start().await;
    let c = h.admin();
    let jane = h.user("jane", None);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "asks"},
        "rules": [{"apiGroups": ["certificates.k8s.io"], "verbs": ["create", "get", "update", "patch"],
            "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "asks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asks"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    for (plural, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let (code, made) = c.post(&format!("/apis/rbac.authorization.k8s.io/v1/{plural}"), &object).await;
        assert_eq!(code, 201, "{made}");
    }

    let (code, made) = jane.post(REQUESTS, &request("a", "example.com/signer", "people")).await;
    assert_eq!((code, &made["spec"]["username"]), (201, &json!("jane")), "{made}");
    assert_eq!(made["spec"]["groups"], json!(["system:authenticated"]));
    let (code, refusal) = jane.patch(&format!("{REQUESTS}/a/approval"), "merge", &decided("Approved")).await;
    let why = "user not permitted to approve requests with signerName \\\"example.com/signer\\\"".replace('\\', "");
    assert!(code == 403 && refusal["message"].as_str().is_some_and(|m| m.contains(&why)), "{refusal}");
    let (code, approved) = c.patch(&format!("{REQUESTS}/a/approval"), "merge", &decided("Approved")).await;
    assert_eq!((code, &approved["status"]["conditions"][0]["type"]), (200, &json!("Approved")), "{approved}");
    assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let (code, refusal) = c.patch(&format!("{REQUESTS}/a/status"), "merge", &decided("Denied")).await;
    assert_eq!(code, 422, "{refusal}");

    let masters = request("b", "kubernetes.io/kube-apiserver-client", "system:masters");
    let (code, refusal) = c.post(REQUESTS, &masters).await;
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert!(code == 403 && refusal["message"].as_str().is_some_and(|m| m.contains(why)), "{refusal}");

    let (_, listed) = c.get(&format!("{REQUESTS}?fieldSelector=spec.signerName=example.com/signer")).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
}
