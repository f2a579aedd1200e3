//! Role bindings, of both scopes.

use serde_json::Value;

use super::{age, age_column, column, list, printer, text, wide};
use crate::meta;
use crate::table::Printer;

pub fn binding() -> Printer {
    let columns = vec![
        column("Role", "string", "The role that the subjects are given."),
        age_column(),
        wide("Users", "string", "Users in the binding"),
        wide("Groups", "string", "Groups in the binding"),
        wide("ServiceAccounts", "string", "ServiceAccounts in the binding"),
    ];
    printer(columns, |binding, now| {
        vec![
            meta::name(binding).into(),
            format!("{}/{}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name")).into(),
            age(binding, now),
            subjects(binding, "User").into(),
            subjects(binding, "Group").into(),
            subjects(binding, "ServiceAccount").into(),
        ]
    })
}

fn subjects(binding: &Value, kind: &str) -> String {
    let of_kind = list(binding, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
    let name = |subject: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")),
        _ => text(subject, "/name").to_owned(),
    };
    of_kind.map(name).collect::<Vec<_>>().join(", ")
}
