//! CSINode: the drivers on a node.

use std::collections::BTreeSet;

use k8s_openapi::api::storage::v1::CSINode;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, each, json, maybe_non_negative, names, spec};

pub struct Rules;

impl Strategy for Rules {
    type Object = CSINode;

    fn default(&self, _object: &mut CSINode) {}

    fn validate_create(&self, object: &CSINode, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let mut seen = BTreeSet::new();
        for (i, driver) in object.spec.drivers.iter().enumerate() {
            let path = spec().child("drivers").index(i);
            if driver.name.is_empty() {
                errs.push(Error::required(&path.child("name"), ""));
            } else {
                each(names::dns_subdomain(&driver.name.to_lowercase()), &driver.name, &path.child("name"), &mut errs);
            }
            if driver.node_id.is_empty() {
                errs.push(Error::required(&path.child("nodeID"), ""));
            }
            let count = driver.allocatable.as_ref().and_then(|a| a.count);
            maybe_non_negative(count, &path.child("allocatable").child("count"), &mut errs);
            for key in driver.topology_keys.iter().flatten() {
                each(names::qualified_name(key), key, &path, &mut errs);
            }
            if !seen.insert(driver.name.as_str()) {
                errs.push(Error::duplicate(&path.child("name"), driver.name.as_str()));
            }
        }
        errs
    }

    fn validate_update(&self, new: &CSINode, old: &CSINode, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        for before in &old.spec.drivers {
            let now = new.spec.drivers.iter().find(|d| d.name == before.name);
            if let Some(now) = now.filter(|d| d.node_id != before.node_id || d.topology_keys != before.topology_keys) {
                errs.push(Error::invalid(&spec().child("drivers"), json(now), "field is immutable"));
            }
        }
        errs
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
