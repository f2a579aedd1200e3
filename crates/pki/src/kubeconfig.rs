//! Writing kubeconfigs that carry their certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Pair;

/// A kubeconfig with one context, `<user>@<cluster>`. JSON strings are YAML strings, so every value is quoted.
pub fn render(cluster: &str, server: &str, ca_pem: &str, user: &str, identity: &Pair) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let context = quoted(&format!("{user}@{cluster}"));
    let (cluster, server, user) = (quoted(cluster), quoted(server), quoted(user));
    let ca = STANDARD.encode(ca_pem);
    let cert = STANDARD.encode(&identity.cert_pem);
    let key = STANDARD.encode(&identity.key_pem);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
contexts:
- name: {context}
  context:
    cluster: {cluster}
    user: {user}
current-context: {context}
preferences: {{}}
users:
- name: {user}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
"
    )
}
