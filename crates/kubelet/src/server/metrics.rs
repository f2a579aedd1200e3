//! `/stats/summary` and `/metrics/resource`, from the runtime's own accounting.

use std::collections::BTreeMap;
use std::fmt::Write;

use cri::v1::{ContainerStats, ListContainerStatsRequest};
use http::{Response, StatusCode};
use jiff::Timestamp;
use podsync::labels;
use serde_json::{Value, json};

use crate::pods::observe::timestamp;
use crate::server::Server;
use crate::server::body::{Body, json as respond, page, text};

async fn stats(server: &Server) -> Result<Vec<ContainerStats>, Box<Response<Body>>> {
    let listed = server.ctx.cri.list_container_stats(ListContainerStatsRequest::default()).await;
    listed.map(|list| list.stats).map_err(|e| Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string())))
}

fn label(stats: &ContainerStats, name: &str) -> String {
    stats.attributes.as_ref().and_then(|a| a.labels.get(name)).cloned().unwrap_or_default()
}

fn cpu_nanos(stats: &ContainerStats) -> u64 {
    stats.cpu.as_ref().and_then(|c| c.usage_core_nano_seconds.as_ref()).map_or(0, |v| v.value)
}

fn working_set(stats: &ContainerStats) -> u64 {
    stats.memory.as_ref().and_then(|m| m.working_set_bytes.as_ref()).map_or(0, |v| v.value)
}

fn container(stats: &ContainerStats) -> Value {
    let at = |nanos: i64| timestamp(nanos).map(|t| t.to_string());
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    json!({
        "name": label(stats, labels::CONTAINER_NAME),
        "cpu": {"time": at(cpu.timestamp), "usageCoreNanoSeconds": cpu_nanos(stats),
            "usageNanoCores": cpu.usage_nano_cores.map(|v| v.value)},
        "memory": {"time": at(memory.timestamp), "workingSetBytes": working_set(stats),
            "usageBytes": memory.usage_bytes.map(|v| v.value), "rssBytes": memory.rss_bytes.map(|v| v.value)},
    })
}

/// CPU seconds used by the whole host and its memory in use.
fn node() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal, in hundredths of a second
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.iter().skip(3).take(2).sum::<u64>();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024
    };
    #[allow(clippy::cast_precision_loss)]
    (busy as f64 / 100.0, field("MemTotal:").saturating_sub(field("MemAvailable:")))
}

pub async fn summary(server: &Server) -> Response<Body> {
    let stats = match stats(server).await {
        Ok(stats) => stats,
        Err(refusal) => return *refusal,
    };
    let mut pods: BTreeMap<String, Vec<&ContainerStats>> = BTreeMap::new();
    for one in &stats {
        pods.entry(label(one, labels::POD_UID)).or_default().push(one);
    }
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|(uid, all)| {
            let named = |name: &str| all.first().map(|one| label(one, name)).unwrap_or_default();
            json!({
                "podRef": {"name": named(labels::POD_NAME), "namespace": named(labels::POD_NAMESPACE), "uid": uid},
                "containers": all.iter().map(|one| container(one)).collect::<Vec<_>>(),
                "cpu": {"usageCoreNanoSeconds": all.iter().map(|one| cpu_nanos(one)).sum::<u64>()},
                "memory": {"workingSetBytes": all.iter().map(|one| working_set(one)).sum::<u64>()},
            })
        })
        .collect();
    let (cpu, memory) = node();
    let now = Timestamp::now().to_string();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let nanos = (cpu * 1e9) as u64;
    respond(&json!({
        "node": {
            "nodeName": server.ctx.settings.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": nanos},
            "memory": {"time": now, "workingSetBytes": memory},
        },
        "pods": pods,
    }))
}

pub async fn resource(server: &Server) -> Response<Body> {
    let stats = match stats(server).await {
        Ok(stats) => stats,
        Err(refusal) => return *refusal,
    };
    let (cpu, memory) = node();
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<String>| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for line in lines {
            let _ = writeln!(out, "{name}{line}");
        }
    };
    let labelled = |one: &ContainerStats| {
        let label = |name: &str| label(one, name);
        let (container, namespace, pod) =
            (label(labels::CONTAINER_NAME), label(labels::POD_NAMESPACE), label(labels::POD_NAME));
        format!("{{container={container:?},namespace={namespace:?},pod={pod:?}}}")
    };
    #[allow(clippy::cast_precision_loss)]
    let seconds = |one: &ContainerStats| cpu_nanos(one) as f64 / 1e9;
    let each = |value: &dyn Fn(&ContainerStats) -> String| -> Vec<String> {
        stats.iter().map(|one| format!("{} {}", labelled(one), value(one))).collect()
    };
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        each(&|one| seconds(one).to_string()),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        each(&|one| working_set(one).to_string()),
    );
    let help = "Cumulative cpu time consumed by the node in core-seconds";
    family("node_cpu_usage_seconds_total", "counter", help, vec![format!(" {cpu}")]);
    let help = "Current working set of the node in bytes";
    family("node_memory_working_set_bytes", "gauge", help, vec![format!(" {memory}")]);
    page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", out)
}
