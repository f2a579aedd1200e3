//! One `check` per question a test asks.

use registry::{Context, Erased};
use serde_json::{Map, Value};

pub fn context() -> Context {
    Context {
        now: "2026-01-02T03:04:05Z".parse().expect("a time"),
        namespace: "default".to_owned(),
        seed: 1,
        status: false,
        approval: false,
    }
}

fn status_context() -> Context {
    Context { status: true, ..context() }
}

pub fn approval_context() -> Context {
    Context { approval: true, ..status_context() }
}

/// By kind; the core group's when several have one of that name.
pub fn rules(kind: &str) -> &'static dyn Erased {
    registry::TABLE.iter().find(|row| row.kind == kind).expect("the kind has a row").strategy
}

/// The object with one field, named by its JSON pointer, set; `null` takes it away.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parents, last) = pointer.rsplit_once('/').expect("a pointer starts with a slash");
    let mut place = &mut object;
    for part in parents.split('/').skip(1) {
        place = match place {
            Value::Array(items) => &mut items[part.parse::<usize>().expect("an index")],
            _ => into_map(place).entry(part).or_insert(Value::Null),
        };
    }
    match place {
        Value::Array(items) => match last.parse::<usize>() {
            Ok(index) => items[index] = value,
            Err(_) => items.push(value),
        },
        _ if value.is_null() => {
            into_map(place).remove(last);
        }
        _ => {
            into_map(place).insert(last.to_owned(), value);
        }
    }
    object
}

fn into_map(place: &mut Value) -> &mut Map<String, Value> {
    if place.is_null() {
        *place = Value::Object(Map::new());
    }
    place.as_object_mut().expect("an object on the way")
}

pub fn defaulted(kind: &str, mut object: Value) -> Value {
    rules(kind).default(&mut object).expect("decodes");
    object
}

/// As the server would hold it just before the write.
pub fn prepared(kind: &str, object: Value) -> Value {
    let mut object = defaulted(kind, object);
    rules(kind).prepare_create(&mut object, &context()).expect("decodes");
    object
}

/// What creating the object is refused with; empty when it is not.
pub fn check(kind: &str, object: Value, expected: &str) {
    let object = prepared(kind, object);
    let errors = rules(kind).validate_create(&object, &context()).expect("decodes");
    let found = if errors.is_empty() { String::new() } else { errors.to_string() };
    assert_eq!(found, expected, "{object:#}");
}

/// What the update is refused with.
pub fn check_update(kind: &str, old: Value, new: Value, expected: &str) {
    refused(kind, old, new, &context(), expected);
}

/// The same for a write to `/status`.
pub fn check_status(kind: &str, old: Value, new: Value, expected: &str) {
    refused(kind, old, new, &status_context(), expected);
}

pub fn refused(kind: &str, old: Value, new: Value, ctx: &Context, expected: &str) {
    let (old, mut new) = (prepared(kind, old), defaulted(kind, new));
    rules(kind).prepare_update(&mut new, &old, ctx).expect("decodes");
    let errors = rules(kind).validate_update(&new, &old, ctx).expect("decodes");
    let found = if errors.is_empty() { String::new() } else { errors.to_string() };
    assert_eq!(found, expected);
}

/// The new object after the strategy has put back what the write may not change.
pub fn updated(kind: &str, old: &Value, new: Value, status: bool) -> Value {
    let mut new = defaulted(kind, new);
    let ctx = if status { status_context() } else { context() };
    rules(kind).prepare_update(&mut new, old, &ctx).expect("decodes");
    new
}

pub fn check_warnings(kind: &str, object: Value, expected: &[&str]) {
    assert_eq!(rules(kind).warnings(&defaulted(kind, object)).expect("decodes"), expected);
}
