//! Kinds that are served in more than one version: an object is kept in one of them, and made into the others when it is
//! asked for.

pub mod autoscaling;
pub mod events;

use serde_json::Value;

/// How a kind that is not kept itself follows from the one that is.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    /// Group, version and plural of the kind that is kept.
    pub kept: (&'static str, &'static str, &'static str),
    pub from_kept: fn(Value) -> Value,
    pub to_kept: fn(Value) -> Value,
}

/// Fields of the object itself that have another name in the other version.
pub type Renames = &'static [(&'static str, &'static str)];

/// With other names, and in another group and version.
fn renamed(mut object: Value, api_version: &str, names: impl Iterator<Item = (&'static str, &'static str)>) -> Value {
    let Some(members) = object.as_object_mut() else { return object };
    let taken: Vec<(&str, Value)> = names.filter_map(|(from, to)| Some((to, members.remove(from)?))).collect();
    members.extend(taken.into_iter().map(|(to, value)| (to.to_owned(), value)));
    members.insert("apiVersion".to_owned(), api_version.into());
    object
}
