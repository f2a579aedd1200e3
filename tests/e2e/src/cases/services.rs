//! Services: cluster addresses, node ports, affinity, DNS, and the rules behind them.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, ensure};

use super::{client, web};
use crate::cluster::{Cluster, PATIENCE, contains, eventually};

pub fn replicas_answer_through_their_service(c: &Cluster) -> anyhow::Result<()> {
    c.k("create namespace shop")?;
    c.feed(&["apply", "-n", "shop"], &web("web", 3))?;
    c.k("expose deployment web -n shop --port=8080")?;
    c.apply(&client("shopper"))?;
    c.k("rollout status deployment/web -n shop --timeout=60s")?;
    c.k("wait pod/shopper --for=condition=Ready --timeout=60s")?;
    c.await_json(
        "endpointslices -n shop -l kubernetes.io/service-name=web",
        "{.items[*].endpoints[*].conditions.ready}",
        "true true true",
    )?;
    let ask = |url: &str| c.kubectl(&["exec", "shopper", "--", "timeout", "5", "wget", "-q", "-O", "-", url]);
    eventually(PATIENCE, || ask("http://web.shop:8080/hostname").map(drop))?;
    let mut replicas = BTreeSet::new();
    for _ in 0..10 {
        replicas.insert(ask("http://web.shop:8080/hostname")?.trim().to_owned());
    }
    ensure!(replicas.len() > 1, "only {replicas:?} answered ten requests");
    contains(&ask("http://web.shop.svc.cluster.local:8080/version")?, &["v1"])
}

pub fn the_nat_table_has_the_chains_people_know(c: &Cluster) -> anyhow::Result<()> {
    let address = c.k("get service web -n shop -o jsonpath={.spec.clusterIP}")?;
    let rules = nat(c)?;
    contains(
        &rules,
        &[
            "-A PREROUTING",
            "KUBE-SERVICES",
            "KUBE-SVC-",
            "KUBE-SEP-",
            "KUBE-NODEPORTS",
            "KUBE-MARK-MASQ",
            "KUBE-POSTROUTING",
        ],
    )?;
    let rule = rules.lines().find(|l| l.starts_with("-A KUBE-SERVICES") && l.contains(&format!("-d {address}/32")));
    let chain = rule.and_then(|l| l.rsplit(' ').next()).context("no rule for the Service")?;
    let backends =
        rules.lines().filter(|l| l.starts_with(&format!("-A {chain} ")) && l.contains("-j KUBE-SEP-")).count();
    ensure!(backends == 3, "{backends} endpoints behind {chain}:\n{rules}");
    Ok(())
}

/// The nat table of the first node.
fn nat(c: &Cluster) -> anyhow::Result<String> {
    in_node(c, 1, "iptables-save", &["-t", "nat"])
}

/// Runs a program in a node's network namespace.
pub fn in_node(c: &Cluster, node: u8, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let record = std::fs::read_to_string(c.dir().join("cluster.json"))?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    let netns = format!("cox{}-node-{node}", record["index"]);
    let output = Command::new("ip").args(["netns", "exec", &netns, program]).args(args).output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn node_ports_and_session_affinity(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: v1
kind: Service
metadata: {name: web-nodes, namespace: shop}
spec:
  type: NodePort
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
",
    )?;
    let port = c.k("get service web-nodes -n shop -o jsonpath={.spec.ports[0].nodePort}")?;
    let node = c.k("get node node-2 -o jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}")?;
    let url = format!("http://{node}:{port}/hostname");
    let ask = || c.kubectl(&["exec", "shopper", "--", "timeout", "5", "wget", "-q", "-O", "-", &url]);
    let first = eventually(PATIENCE, ask)?;
    for _ in 0..8 {
        let next = ask()?;
        ensure!(next == first, "affinity was lost: {first} then {next}");
    }
    Ok(())
}

/// A Service without a selector leads where its author says.
pub fn endpoints_made_by_hand_are_reached(c: &Cluster) -> anyhow::Result<()> {
    let ip = c.k("get pods -n shop -l app=web -o jsonpath={.items[0].status.podIP}")?;
    c.apply(&format!(
        "apiVersion: v1
kind: Service
metadata: {{name: by-hand, namespace: shop}}
spec:
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: v1
kind: Endpoints
metadata: {{name: by-hand, namespace: shop}}
subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 8080}}]}}]
"
    ))?;
    let slices = "endpointslices -n shop -l kubernetes.io/service-name=by-hand";
    c.await_json(slices, "{.items[*].endpoints[*].addresses[*]}", &ip)?;
    eventually(PATIENCE, || {
        let url = "http://by-hand.shop/";
        c.kubectl(&["exec", "shopper", "--", "timeout", "5", "wget", "-q", "-O", "-", url])
    })?;
    c.k("delete endpoints by-hand -n shop")?;
    c.await_json(slices, "{.items[*].metadata.name}", "")?;
    c.k("delete service by-hand -n shop").map(drop)
}

pub fn headless_services_resolve_to_their_pods(c: &Cluster) -> anyhow::Result<()> {
    c.apply(
        "apiVersion: v1
kind: Service
metadata: {name: web-headless, namespace: shop}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{port: 8080}]
",
    )?;
    let ips = c.k("get pods -n shop -l app=web -o jsonpath={.items[*].status.podIP}")?;
    eventually(PATIENCE, || {
        let answer = c.kubectl(&["exec", "shopper", "--", "nslookup", "web-headless.shop.svc.cluster.local"])?;
        contains(&answer, &ips.split(' ').collect::<Vec<_>>())
    })
}

/// A range that someone has an address of stays until it is given back.
pub fn ranges_are_added_and_taken_away(c: &Cluster) -> anyhow::Result<()> {
    let ready = "{.status.conditions[?(@.type==\"Ready\")].status}";
    c.await_json("servicecidr kubernetes", ready, "True")?;
    c.apply(
        "apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [10.201.0.0/28]}
",
    )?;
    c.await_json("servicecidr more", ready, "True")?;
    c.k("create service clusterip far -n shop --clusterip=10.201.0.9 --tcp=80:8080")?;
    contains(&c.k("get ipaddress 10.201.0.9")?, &["PARENTREF", "services/shop/far"])?;
    c.k("delete servicecidr more --wait=false")?;
    c.await_json("servicecidr more", ready, "False")?;
    c.k("delete service far -n shop")?;
    c.k("wait --for=delete servicecidr/more --timeout=40s").map(drop)
}
