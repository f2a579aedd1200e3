//! VolumeAttributesClass: what a driver is told of volumes of this class, which does not change.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, names};

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_BYTES: usize = 256 << 10;

pub struct Rules;

impl Strategy for Rules {
    type Object = VolumeAttributesClass;

    fn default(&self, _object: &mut VolumeAttributesClass) {}

    fn validate_create(&self, object: &VolumeAttributesClass, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        driver(&object.driver_name, &Path::new("driverName"), &mut errs);
        parameters(&object.parameters, &Path::new("parameters"), &mut errs);
        errs
    }

    fn validate_update(&self, new: &VolumeAttributesClass, old: &VolumeAttributesClass, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if new.driver_name != old.driver_name {
            errs.push(Error::forbidden(&Path::new("driverName"), "updates to driverName are forbidden."));
        }
        if new.parameters.clone().unwrap_or_default() != old.parameters.clone().unwrap_or_default() {
            errs.push(Error::forbidden(&Path::new("parameters"), "updates to parameters are forbidden."));
        }
        errs
    }
}

/// The name of a driver: a qualified name, in any case.
pub(super) fn driver(name: &str, path: &Path, errs: &mut ErrorList) {
    if name.is_empty() {
        errs.push(Error::required(path, ""));
    } else {
        each(names::qualified_name(&name.to_lowercase()), name, path, errs);
    }
}

fn parameters(given: &Option<BTreeMap<String, String>>, path: &Path, errs: &mut ErrorList) {
    let none = BTreeMap::new();
    let given = given.as_ref().unwrap_or(&none);
    if given.len() > MAX_PARAMETERS {
        errs.push(Error::too_long(path, MAX_PARAMETERS));
        return;
    }
    if given.is_empty() {
        errs.push(Error::required(path, "must contain at least one key/value pair"));
    }
    if given.contains_key("") {
        errs.push(Error::invalid(path, "", "field can not be empty."));
    }
    if given.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_PARAMETERS_BYTES {
        errs.push(Error::too_long(path, MAX_PARAMETERS_BYTES));
    }
}
