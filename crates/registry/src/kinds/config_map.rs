//! ConfigMap: at most a mebibyte under keys that can be file names; frozen once `immutable` is set.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, names};

/// The most a ConfigMap's or Secret's values may weigh together.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
pub(super) const FROZEN: &str = "field is immutable when `immutable` is set";

pub struct Rules;

impl Strategy for Rules {
    type Object = ConfigMap;

    fn default(&self, _object: &mut ConfigMap) {}

    fn validate_create(&self, object: &ConfigMap, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let mut total = 0;
        for (key, value) in object.data.iter().flatten() {
            let path = Path::new("data").key(key);
            each(names::config_map_key(key), key, &path, &mut errs);
            if object.binary_data.as_ref().is_some_and(|b| b.contains_key(key)) {
                errs.push(Error::invalid(&path, key.as_str(), "duplicate of key present in binaryData"));
            }
            total += value.len();
        }
        for (key, value) in object.binary_data.iter().flatten() {
            each(names::config_map_key(key), key, &Path::new("binaryData").key(key), &mut errs);
            total += value.0.len();
        }
        if total > MAX_BYTES {
            errs.push(Error::too_long(&Path::new("[]"), MAX_BYTES));
        }
        errs
    }

    fn validate_update(&self, new: &ConfigMap, old: &ConfigMap, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if old.immutable == Some(true) {
            let mut frozen = |changed: bool, field: &str| {
                if changed {
                    errs.push(Error::forbidden(&Path::new(field), FROZEN));
                }
            };
            frozen(new.immutable != Some(true), "immutable");
            frozen(new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default(), "data");
            let binary = |c: &ConfigMap| c.binary_data.clone().unwrap_or_default();
            frozen(binary(new) != binary(old), "binaryData");
        }
        errs.extend(Strategy::validate_create(self, new, ctx));
        errs
    }
}
