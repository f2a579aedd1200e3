//! Bad input, refused with upstream's status code, reason and words.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::web;
use crate::cluster::{Cluster, contains};

pub fn refusals_have_upstreams_words(c: &Cluster) -> anyhow::Result<()> {
    let refused = |args: &[&str], manifest: &str, words: &[&str]| -> anyhow::Result<()> {
        let output = c.feed(args, manifest)?;
        ensure!(!output.status.success(), "{args:?} was accepted:\n{manifest}");
        contains(&String::from_utf8_lossy(&output.stderr), words)
    };
    let good = web("bad", 1);
    refused(
        &["create"],
        &good.replace("  replicas: 1", "  replicas: 1\n  replica: 1"),
        &["unknown field \"spec.replica\""],
    )?;
    refused(
        &["create"],
        &good.replace("name: bad\n", "name: Bad_Name\n"),
        &[
            "Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'",
        ],
    )?;
    refused(
        &["create"],
        &good.replace("        image: coxswain/web:v1\n", ""),
        &["spec.template.spec.containers[0].image: Required value"],
    )?;
    refused(
        &["create"],
        &good.replace("    matchLabels:\n      app: bad", "    matchLabels:\n      app: other"),
        &["`selector` does not match template `labels`"],
    )?;
    let unknown = "no matches for kind \"Podd\" in version \"v1\"";
    let odd = "apiVersion: v1\nkind: Podd\nmetadata: {name: x}\n";
    refused(&["create", "--validate=false"], odd, &[unknown])?;
    refused(&["create"], odd, &[unknown])?;
    c.apply(&good)?;
    let moved = good.replace("app: bad", "app: moved");
    refused(&["apply"], &moved, &["spec.selector: Invalid value:", "field is immutable"])?;
    refused(&["create"], &good, &["Error from server (AlreadyExists)", "deployments.apps \"bad\" already exists"])?;
    c.k("delete deployment bad")?;
    contains(&c.refused(&["get", "pod", "nobody"])?, &["Error from server (NotFound): pods \"nobody\" not found"])?;
    contains(&c.refused(&["get", "nonsense"])?, &["the server doesn't have a resource type \"nonsense\""])
}

/// One raw request as the administrator; returns the status code and the body.
fn request(c: &Cluster, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<(u16, Value)> {
    curl(c, method, path, body, Identity::Admin)
}

enum Identity {
    Admin,
    Nobody,
    Token(&'static str),
}

fn curl(c: &Cluster, method: &str, path: &str, body: Option<&str>, identity: Identity) -> anyhow::Result<(u16, Value)> {
    let server = c.k("config view --minify -o jsonpath={.clusters[0].cluster.server}")?;
    let dir = tempfile::tempdir()?;
    let pki = c.dir().join("pki");
    let mut command = Command::new("curl");
    command.args(["-s", "-w", "\n%{http_code}", "-X", method, "-H", "Content-Type: application/json"]);
    command.arg("--cacert").arg(pki.join("ca.crt"));
    if let Identity::Token(token) = identity {
        command.arg("-H").arg(format!("Authorization: Bearer {token}"));
    }
    if matches!(identity, Identity::Admin) {
        for (flag, field) in [("--cert", "client-certificate-data"), ("--key", "client-key-data")] {
            let data = c.kubectl(&["config", "view", "--raw", &format!("-o=jsonpath={{.users[0].user.{field}}}")])?;
            let file = dir.path().join(field);
            let decoded = Command::new("sh").arg("-c").arg(format!("printf %s '{data}' | base64 -d")).output()?;
            std::fs::write(&file, decoded.stdout)?;
            command.arg(flag).arg(file);
        }
    }
    if let Some(body) = body {
        let file = dir.path().join("body");
        std::fs::write(&file, body)?;
        command.arg("--data-binary").arg(format!("@{}", file.display()));
    }
    let output = command.arg(format!("{server}{path}")).output().context("cannot run curl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').context("curl prints the code last")?;
    Ok((code.parse()?, serde_json::from_str(body).unwrap_or(Value::Null)))
}

pub fn the_api_server_answers_with_upstreams_status(c: &Cluster) -> anyhow::Result<()> {
    let check =
        |method: &str, path: &str, body: Option<Value>, code: u16, reason: &str, words: &str| -> anyhow::Result<()> {
            let text = body.map(|b| b.to_string());
            let (got, status) = request(c, method, path, text.as_deref())?;
            ensure!(
                got == code && status["reason"] == reason && status["kind"] == "Status" && status["code"] == code,
                "{method} {path}: {got} {status}"
            );
            contains(status["message"].as_str().unwrap_or_default(), &[words])
        };
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |extra: Value| {
        let mut map =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "raw" }, "data": { "a": "b" } });
        map.as_object_mut().expect("an object").extend(extra.as_object().cloned().unwrap_or_default());
        Some(map)
    };
    check(
        "POST",
        &format!("{maps}?fieldValidation=Strict"),
        map(json!({ "extra": 1 })),
        400,
        "BadRequest",
        "strict decoding error: unknown field \"extra\"",
    )?;
    check(
        "POST",
        maps,
        map(json!({ "metadata": { "name": "A" } })),
        422,
        "Invalid",
        "ConfigMap \"A\" is invalid: metadata.name: Invalid value: \"A\"",
    )?;
    check("POST", maps, map(json!({ "kind": "Secret" })), 400, "BadRequest", "ConfigMap")?;
    check("POST", maps, map(json!({ "metadata": {} })), 422, "Invalid", "name or generateName is required")?;
    check("GET", &format!("{maps}/none"), None, 404, "NotFound", "configmaps \"none\" not found")?;
    ensure!(request(c, "GET", "/api/v1/nonsense", None)?.0 == 404);
    let (code, made) = request(c, "POST", maps, map(json!({})).map(|m| m.to_string()).as_deref())?;
    ensure!(code == 201, "{made}");
    let mut stale = made.clone();
    stale["data"]["a"] = json!("c");
    let (code, _) = request(c, "PUT", &format!("{maps}/raw"), Some(&stale.to_string()))?;
    ensure!(code == 200);
    stale["data"]["a"] = json!("d");
    check(
        "PUT",
        &format!("{maps}/raw"),
        Some(stale),
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version and try again",
    )?;
    let (code, _) = request(c, "DELETE", &format!("{maps}/raw"), None)?;
    ensure!(code == 200);
    let large = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "large" }, "data": { "a": "x".repeat(4 << 20) } });
    check("POST", maps, Some(large), 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")
}

pub fn access_is_denied_in_upstreams_words(c: &Cluster) -> anyhow::Result<()> {
    let pods = "/api/v1/namespaces/default/pods";
    let (code, status) = curl(c, "GET", pods, None, Identity::Nobody)?;
    ensure!(code == 403 && status["reason"] == "Forbidden", "{code} {status}");
    contains(
        status["message"].as_str().unwrap_or_default(),
        &[
            "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ],
    )?;
    let (code, status) = curl(c, "GET", pods, None, Identity::Token("not-a-token"))?;
    ensure!(
        code == 401 && status["reason"] == "Unauthorized" && status["message"] == "Unauthorized",
        "{code} {status}"
    );
    contains(
        &c.refused(&["get", "pods", "--as=jane"])?,
        &[
            "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ],
    )?;
    c.k("create role reader --verb=get,list --resource=pods")?;
    c.k("create rolebinding readers --role=reader --user=jane")?;
    crate::cluster::eventually(crate::cluster::PATIENCE, || c.k("get pods --as=jane").map(drop))?;
    contains(&c.refused(&["delete", "pod", "x", "--as=jane"])?, &["cannot delete resource \"pods\""])?;
    contains(&c.k("auth can-i list pods --as=jane")?, &["yes"])?;
    c.k("delete rolebinding readers")?;
    c.k("delete role reader")?;
    Ok(())
}
