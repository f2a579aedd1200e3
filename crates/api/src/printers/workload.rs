//! What makes pods: Deployment, ReplicaSet, ReplicationController, DaemonSet, StatefulSet and their bookkeeping.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    NONE, age, age_column, column, container_columns, containers, label_selector, labels, list, number, printer,
    selector_column, text,
};
use crate::meta;
use crate::table::{Column, Printer};

const POD_SPEC: &str = "/spec/template/spec";

fn with_template(mut columns: Vec<Column>) -> Vec<Column> {
    columns.extend(container_columns());
    columns
}

fn with_selector(columns: Vec<Column>) -> Vec<Column> {
    let mut columns = with_template(columns);
    columns.push(selector_column());
    columns
}

pub fn deployment() -> Printer {
    let columns = vec![
        column("Ready", "string", "Number of the pod with ready state"),
        column("Up-to-date", "integer", "Total number of non-terminated pods that have the desired template spec."),
        column("Available", "integer", "Total number of available pods targeted by this deployment."),
        age_column(),
    ];
    printer(with_selector(columns), |object, now| {
        let mut cells = vec![
            meta::name(object).into(),
            ready_of(object),
            number(object, "/status/updatedReplicas").into(),
            number(object, "/status/availableReplicas").into(),
            age(object, now),
        ];
        cells.extend(containers(object, POD_SPEC));
        cells.push(label_selector(object, "/spec/selector").into());
        cells
    })
}

/// `2/3`
fn ready_of(object: &Value) -> Value {
    let (ready, desired) = (number(object, "/status/readyReplicas"), number(object, "/spec/replicas"));
    format!("{ready}/{desired}").into()
}

pub fn replica_set() -> Printer {
    printer(replica_columns(), |object, now| replica_cells(object, now, label_selector(object, "/spec/selector")))
}

/// Its selector is a plain set of labels.
pub fn replication_controller() -> Printer {
    printer(replica_columns(), |object, now| replica_cells(object, now, labels(object, "/spec/selector")))
}

fn replica_columns() -> Vec<Column> {
    with_selector(vec![
        column("Desired", "integer", "The number of desired pods."),
        column("Current", "integer", "The most recently observed number of non-terminating pods."),
        column("Ready", "integer", "The number of pods that have a Ready condition."),
        age_column(),
    ])
}

fn replica_cells(object: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let mut cells = vec![
        meta::name(object).into(),
        number(object, "/spec/replicas").into(),
        number(object, "/status/replicas").into(),
        number(object, "/status/readyReplicas").into(),
        age(object, now),
    ];
    cells.extend(containers(object, POD_SPEC));
    cells.push(selector.into());
    cells
}

pub fn daemon_set() -> Printer {
    let columns = vec![
        column("Desired", "integer", "The number of nodes that should be running the daemon pod."),
        column("Current", "integer", "The number of nodes that run at least one daemon pod and should."),
        column("Ready", "integer", "The number of nodes that have a ready daemon pod."),
        column("Up-to-date", "integer", "The number of nodes that run the updated daemon pod."),
        column("Available", "integer", "The number of nodes whose daemon pod is available."),
        column("Node Selector", "string", "The labels that a node must have to run the daemon pod."),
        age_column(),
    ];
    printer(with_selector(columns), |object, now| {
        let mut cells = vec![
            meta::name(object).into(),
            number(object, "/status/desiredNumberScheduled").into(),
            number(object, "/status/currentNumberScheduled").into(),
            number(object, "/status/numberReady").into(),
            number(object, "/status/updatedNumberScheduled").into(),
            number(object, "/status/numberAvailable").into(),
            labels(object, "/spec/template/spec/nodeSelector").into(),
            age(object, now),
        ];
        cells.extend(containers(object, POD_SPEC));
        cells.push(label_selector(object, "/spec/selector").into());
        cells
    })
}

pub fn stateful_set() -> Printer {
    let columns = vec![column("Ready", "string", "Number of the pod with ready state"), age_column()];
    printer(with_template(columns), |object, now| {
        let mut cells = vec![meta::name(object).into(), ready_of(object), age(object, now)];
        cells.extend(containers(object, POD_SPEC));
        cells
    })
}

pub fn controller_revision() -> Printer {
    let columns = vec![
        column("Controller", "string", "Controller of the object"),
        column("Revision", "integer", "Revision indicates the revision of the state represented by Data."),
        age_column(),
    ];
    printer(columns, |object, now: Timestamp| {
        let controller = match meta::controller(object) {
            Some(owner) => {
                let group = text(owner, "/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
                let dot = if group.is_empty() { "" } else { "." };
                let kind = format!("{}{dot}{group}", text(owner, "/kind")).to_lowercase();
                format!("{kind}/{}", text(owner, "/name"))
            }
            None => NONE.to_owned(),
        };
        vec![meta::name(object).into(), controller.into(), number(object, "/revision").into(), age(object, now)]
    })
}

pub fn pod_template() -> Printer {
    let columns = vec![
        column("Containers", "string", "Names of each container in the template."),
        column("Images", "string", "Images referenced by each container in the template."),
        column("Pod Labels", "string", "The labels for the pod template."),
    ];
    printer(columns, |object, _now| {
        let containers = list(object, "/template/spec/containers");
        let join = |field: &str| containers.iter().map(|c| text(c, field)).collect::<Vec<_>>().join(",");
        vec![
            meta::name(object).into(),
            join("/name").into(),
            join("/image").into(),
            labels(object, "/template/metadata/labels").into(),
        ]
    })
}
