//! The contract between a kind and the API server's generic store.
//!
//! Order on create: decode → `default` → admission → `prepare_create` → `validate_create` → write.
//! Order on update: decode → `default` → `prepare_update(old)` → admission → `validate_update(old)` → write, for the main
//! resource and, with `status: true`, for the status subresource (which keeps the old spec).

use api::ErrorList;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What a strategy may know beside the objects: the request's time, whether it is the status half.
#[derive(Clone, Debug)]
pub struct Context {
    pub now: jiff::Timestamp,
    pub namespace: String,
    /// Seed for what must be chosen at random (node ports, cluster IPs are allocated by the API server, not here).
    pub seed: u64,
    /// The write goes to the status half of the object: to `/status`, or to a subresource that is a part of it.
    pub status: bool,
    /// That is the one where requests are approved and denied.
    pub approval: bool,
}

/// The rules of one kind, over its typed form.
pub trait Strategy: Send + Sync + 'static {
    type Object: DeserializeOwned + Serialize + Clone + Send + Sync;

    /// Fills in what upstream's defaulting fills in. Must be idempotent.
    fn default(&self, object: &mut Self::Object);

    /// Clears what a creator may not set (status), sets generation-independent bookkeeping.
    fn prepare_create(&self, _object: &mut Self::Object, _ctx: &Context) {}

    /// Carries over what this write may not change: `status` for the main resource, everything but `status` (and
    /// metadata that the status endpoint may change) when `ctx.status`.
    fn prepare_update(&self, _new: &mut Self::Object, _old: &Self::Object, _ctx: &Context) {}

    fn validate_create(&self, object: &Self::Object, ctx: &Context) -> ErrorList;

    /// Includes immutability rules. The server has already checked ObjectMeta itself.
    fn validate_update(&self, new: &Self::Object, old: &Self::Object, ctx: &Context) -> ErrorList;

    /// Warnings for the client (`Warning:` headers), on create and update.
    fn warnings(&self, _object: &Self::Object) -> Vec<String> {
        Vec::new()
    }

    /// Whether metadata.generation counts changes of this kind (it has a spec that controllers observe).
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether a PUT to a missing object creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resourceVersion is taken as unconditional.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Whether a delete that does not say what becomes of dependents leaves them: as it was before they were collected.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// The default grace period for a delete, when the kind is deleted gracefully (pods); `None`: at once.
    fn grace_period_seconds(&self, _object: &Self::Object) -> Option<i64> {
        None
    }
}

/// A strategy with its type erased: objects are JSON values. A value that does not fit the kind's type is an error
/// with serde's message, which the server turns into a 400.
pub trait Erased: Send + Sync {
    fn default(&self, object: &mut Value) -> Result<(), serde_json::Error>;
    fn prepare_create(&self, object: &mut Value, ctx: &Context) -> Result<(), serde_json::Error>;
    fn prepare_update(&self, new: &mut Value, old: &Value, ctx: &Context) -> Result<(), serde_json::Error>;
    fn validate_create(&self, object: &Value, ctx: &Context) -> Result<ErrorList, serde_json::Error>;
    fn validate_update(&self, new: &Value, old: &Value, ctx: &Context) -> Result<ErrorList, serde_json::Error>;
    fn warnings(&self, object: &Value) -> Result<Vec<String>, serde_json::Error>;
    fn has_generation(&self) -> bool;
    fn allow_create_on_update(&self) -> bool;
    fn allow_unconditional_update(&self) -> bool;
    fn orphans_by_default(&self) -> bool;
    fn grace_period_seconds(&self, object: &Value) -> Result<Option<i64>, serde_json::Error>;
}

impl<S: Strategy> Erased for S {
    fn default(&self, object: &mut Value) -> Result<(), serde_json::Error> {
        edit::<S>(object, |typed| Strategy::default(self, typed))
    }

    fn prepare_create(&self, object: &mut Value, ctx: &Context) -> Result<(), serde_json::Error> {
        edit::<S>(object, |typed| Strategy::prepare_create(self, typed, ctx))
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, ctx: &Context) -> Result<(), serde_json::Error> {
        let old = typed::<S>(old)?;
        edit::<S>(new, |typed| Strategy::prepare_update(self, typed, &old, ctx))
    }

    fn validate_create(&self, object: &Value, ctx: &Context) -> Result<ErrorList, serde_json::Error> {
        Ok(Strategy::validate_create(self, &typed::<S>(object)?, ctx))
    }

    fn validate_update(&self, new: &Value, old: &Value, ctx: &Context) -> Result<ErrorList, serde_json::Error> {
        Ok(Strategy::validate_update(self, &typed::<S>(new)?, &typed::<S>(old)?, ctx))
    }

    fn warnings(&self, object: &Value) -> Result<Vec<String>, serde_json::Error> {
        Ok(Strategy::warnings(self, &typed::<S>(object)?))
    }

    fn has_generation(&self) -> bool {
        Strategy::has_generation(self)
    }

    fn allow_create_on_update(&self) -> bool {
        Strategy::allow_create_on_update(self)
    }

    fn allow_unconditional_update(&self) -> bool {
        Strategy::allow_unconditional_update(self)
    }

    fn orphans_by_default(&self) -> bool {
        Strategy::orphans_by_default(self)
    }

    fn grace_period_seconds(&self, object: &Value) -> Result<Option<i64>, serde_json::Error> {
        Ok(Strategy::grace_period_seconds(self, &typed::<S>(object)?))
    }
}

fn typed<S: Strategy>(value: &Value) -> Result<S::Object, serde_json::Error> {
    crate::decode::from_value(value)
}

fn edit<S: Strategy>(value: &mut Value, f: impl FnOnce(&mut S::Object)) -> Result<(), serde_json::Error> {
    let mut object = typed::<S>(value)?;
    f(&mut object);
    *value = serde_json::to_value(object)?;
    omit_empty_metadata(value);
    Ok(())
}

/// Go's encoder omits what is empty here; controllers and people compare with that.
fn omit_empty_metadata(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match metadata.get(field) {
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            _ => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_metadata_is_omitted() {
        let mut object = json!({"metadata": {"name": "a", "ownerReferences": [], "labels": {}, "finalizers": ["x"]}});
        omit_empty_metadata(&mut object);
        assert_eq!(object, json!({"metadata": {"name": "a", "finalizers": ["x"]}}));
    }
}
