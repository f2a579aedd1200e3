//! HorizontalPodAutoscalers.

use serde_json::Value;

use super::{NONE, UNKNOWN, UNSET, age, age_column, column, either, list, number, printer, text};
use crate::conversion::autoscaling::to_kept;
use crate::meta;
use crate::table::Printer;

/// How many metrics are shown.
const METRICS_SHOWN: usize = 2;

pub fn horizontal_pod_autoscaler() -> Printer {
    let columns = vec![
        column("Reference", "string", "The resource to scale."),
        column("Targets", "string", "The metrics by which to scale, current and wanted."),
        column("MinPods", "string", "The lower limit for the number of replicas."),
        column("MaxPods", "integer", "The upper limit for the number of replicas."),
        column("Replicas", "integer", "The current number of replicas."),
        age_column(),
    ];
    printer(columns, |scaler, now| {
        let target = |field: &str| text(scaler, &format!("/spec/scaleTargetRef/{field}"));
        vec![
            meta::name(scaler).into(),
            format!("{}/{}", target("kind"), target("name")).into(),
            metrics(scaler).into(),
            either(scaler, "/spec/minReplicas", UNSET).into(),
            number(scaler, "/spec/maxReplicas").into(),
            number(scaler, "/status/currentReplicas").into(),
            age(scaler, now),
        ]
    })
}

/// Of `autoscaling/v1`, which shows the same.
pub fn first_version() -> Printer {
    let second = horizontal_pod_autoscaler();
    Printer { cells: |scaler, now| (horizontal_pod_autoscaler().cells)(&to_kept(scaler.clone()), now), ..second }
}

fn metrics(scaler: &Value) -> String {
    let wanted = list(scaler, "/spec/metrics");
    if wanted.is_empty() {
        return NONE.to_owned();
    }
    let current = list(scaler, "/status/currentMetrics");
    let shown: Vec<String> =
        wanted.iter().take(METRICS_SHOWN).enumerate().map(|(i, m)| metric(m, current.get(i))).collect();
    let shown = shown.join(", ");
    match wanted.len().checked_sub(METRICS_SHOWN) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// `cpu: 10%/80%`, `3/5`, `3/5 (avg)`
fn metric(wanted: &Value, current: Option<&Value>) -> String {
    let (part, named) = match text(wanted, "/type") {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |field: &str| wanted.pointer(&format!("/{part}/target/{field}")).map(|_| field.to_owned());
    let Some(field) = ["averageUtilization", "averageValue", "value"].into_iter().find_map(target) else {
        return UNKNOWN.to_owned();
    };
    let unit = if field == "averageUtilization" { "%" } else { "" };
    let have = current.map_or(UNKNOWN.to_owned(), |c| either(c, &format!("/{part}/current/{field}"), UNKNOWN));
    let have = if have == UNKNOWN { have } else { format!("{have}{unit}") };
    let want = either(wanted, &format!("/{part}/target/{field}"), UNKNOWN);
    let name = if named { format!("{}: ", text(wanted, &format!("/{part}/name"))) } else { String::new() };
    let average = if field == "averageValue" && matches!(part, "object" | "external") { " (avg)" } else { "" };
    format!("{name}{have}/{want}{unit}{average}")
}
