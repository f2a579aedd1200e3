//! Namespaces, and what configures the pods in them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{age, age_column, column, list, map, printer, size, text};
use crate::meta;
use crate::quantity::Quantity;
use crate::table::Printer;

pub fn namespace() -> Printer {
    let columns = vec![column("Status", "string", "The status of the namespace"), age_column()];
    printer(columns, |object, now| {
        vec![meta::name(object).into(), text(object, "/status/phase").into(), age(object, now)]
    })
}

pub fn config_map() -> Printer {
    printer(vec![column("Data", "string", "The number of entries."), age_column()], |object, now| {
        let entries = size(object, "/data") + size(object, "/binaryData");
        vec![meta::name(object).into(), entries.into(), age(object, now)]
    })
}

pub fn secret() -> Printer {
    let columns = vec![
        column("Type", "string", "Used to facilitate programmatic handling of secret data."),
        column("Data", "integer", "The number of entries."),
        age_column(),
    ];
    printer(columns, |object, now| {
        vec![meta::name(object).into(), text(object, "/type").into(), size(object, "/data").into(), age(object, now)]
    })
}

pub fn service_account() -> Printer {
    let columns = vec![column("Secrets", "integer", "The number of secrets of the account."), age_column()];
    printer(columns, |object, now| {
        vec![meta::name(object).into(), list(object, "/secrets").len().into(), age(object, now)]
    })
}

pub fn resource_quota() -> Printer {
    let columns = vec![
        column("Request", "string", "Request represents a minimum amount of cpu/memory that a container may consume."),
        column("Limit", "string", "Limits control the maximum amount of cpu/memory that a container may use."),
        age_column(),
    ];
    printer(columns, |object, now| {
        let (limits, requests): (BTreeMap<&String, &Value>, BTreeMap<_, _>) =
            map(object, "/status/hard").into_iter().flatten().partition(|(name, _)| name.starts_with("limits"));
        let used = |name: &str| map(object, "/status/used").and_then(|used| used.get(name));
        let line = |hard: BTreeMap<&String, &Value>| {
            let parts =
                hard.into_iter().map(|(name, hard)| format!("{name}: {}/{}", amount(used(name)), amount(Some(hard))));
            parts.collect::<Vec<_>>().join(", ")
        };
        vec![meta::name(object).into(), line(requests).into(), line(limits).into(), age(object, now)]
    })
}

fn amount(value: Option<&Value>) -> String {
    let parsed = value.and_then(Value::as_str).and_then(|text| text.parse::<Quantity>().ok());
    parsed.unwrap_or(Quantity::ZERO).to_string()
}
