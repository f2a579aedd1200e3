//! Printed tables: the columns and cells of each kind, as `kubectl get` shows them. One file per group of kinds.

use serde_json::Value;

use crate::table::Column;

pub(crate) const NAME_WORDS: &str = "Name must be unique within a namespace. Is required when creating resources, \
    although some resources may allow a client to request the generation of an appropriate name automatically. Name \
    is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

pub(crate) const AGE_WORDS: &str = "CreationTimestamp is a timestamp representing the server time when this object was \
    created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set \
    this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for \
    lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// What a kind without columns of its own shows.
pub(crate) fn default_columns() -> Vec<Column> {
    vec![
        Column {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: NAME_WORDS.into(),
            priority: 0,
        },
        Column {
            name: "Created At".into(),
            kind: "date".into(),
            format: "".into(),
            description: AGE_WORDS.into(),
            priority: 0,
        },
    ]
}

pub(crate) fn default_cells(object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
    vec![crate::meta::name(object).into(), crate::meta::text(object, "creationTimestamp").into()]
}
