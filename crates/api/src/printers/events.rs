//! Events.

use jiff::Timestamp;
use serde_json::Value;

use super::{UNKNOWN, column, name_column, number, since, text, text_or, wide};
use crate::table::Printer;
use crate::{conversion, meta};

pub fn event() -> Printer {
    let columns = vec![
        column("Last Seen", "string", "The time at which the most recent occurrence of this event was recorded."),
        column("Type", "string", "Type of this event (Normal, Warning), new types could be added in the future"),
        column("Reason", "string", "Why the transition into the object's current status happened."),
        column("Object", "string", "The object that this event is about."),
        wide("Subobject", "string", "The part of the object that this event is about."),
        wide("Source", "string", "The component reporting this event."),
        column("Message", "string", "A human-readable description of the status of this operation."),
        wide("First Seen", "string", "The time at which the event was first recorded."),
        wide("Count", "string", "The number of times this event has occurred."),
        crate::table::Column { priority: 1, ..name_column() },
    ];
    Printer { columns, cells }
}

/// The same for an event of `events.k8s.io`.
pub fn events_event() -> Printer {
    Printer { cells: |served, now| cells(&conversion::events::to_kept(served.clone()), now), ..event() }
}

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let seen = |pointer: &str| since(text(event, pointer), now);
    let first = match seen("/firstTimestamp") {
        unknown if unknown == UNKNOWN => seen("/eventTime"),
        first => first,
    };
    let series = event.get("series").is_some_and(Value::is_object);
    let (last, count) = if series {
        (seen("/series/lastObservedTime"), number(event, "/series/count"))
    } else {
        let last = seen("/lastTimestamp");
        (if last == UNKNOWN { first.clone() } else { last }, number(event, "/count").max(1))
    };
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    let name = text(event, "/involvedObject/name");
    let object = if name.is_empty() { kind } else { format!("{kind}/{name}") };
    vec![
        last.into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        text(event, "/involvedObject/fieldPath").into(),
        source(event).into(),
        text(event, "/message").trim().into(),
        first.into(),
        count.into(),
        meta::name(event).into(),
    ]
}

fn source(event: &Value) -> String {
    let component = text_or(event, "/source/component", text(event, "/reportingComponent"));
    let host = text_or(event, "/source/host", text(event, "/reportingInstance"));
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
