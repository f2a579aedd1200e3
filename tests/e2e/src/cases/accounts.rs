//! Tokens that are kept in Secrets.

use anyhow::{Context, ensure};

use crate::cluster::{Cluster, PATIENCE, eventually};

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata:
  name: robot-token
  annotations:
    kubernetes.io/service-account.name: robot
type: kubernetes.io/service-account-token
";

pub fn a_secret_is_given_its_accounts_token_and_goes_with_it(c: &Cluster) -> anyhow::Result<()> {
    c.k("create serviceaccount robot")?;
    c.k("patch serviceaccount robot -p {\"secrets\":[{\"name\":\"robot-token\"}]}")?;
    c.apply(SECRET)?;
    let token = token_in(c, "robot-token")?;
    ensure!(!c.k("get secret robot-token -o jsonpath={.data.ca\\.crt}")?.is_empty(), "no authority");
    ensure!(reviewed(c, &token)? == "system:serviceaccount:default:robot", "the API server does not know the token");
    c.k("delete secret robot-token")?;
    ensure!(reviewed(c, &token)?.is_empty(), "the token outlived its Secret");
    c.await_json("serviceaccount robot", "{.secrets[*].name}", "")?;
    c.apply(SECRET)?;
    token_in(c, "robot-token")?;
    c.k("delete serviceaccount robot")?;
    c.k("wait --for=delete secret/robot-token --timeout=30s").map(drop)
}

fn token_in(c: &Cluster, secret: &str) -> anyhow::Result<String> {
    eventually(PATIENCE, || {
        let text = c.kubectl(&["get", "secret", secret, "-o", "go-template={{.data.token | base64decode}}"])?;
        ensure!(text.matches('.').count() == 2, "no token yet");
        Ok(text)
    })
}

/// Whose token the API server says it is.
fn reviewed(c: &Cluster, token: &str) -> anyhow::Result<String> {
    let review = format!("apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec:\n  token: {token}\n");
    let output = c.feed(&["create", "-o", "jsonpath={.status.user.username}"], &review)?;
    String::from_utf8(output.stdout).context("a name")
}
