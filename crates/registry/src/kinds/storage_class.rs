//! StorageClass: how it provisions is given once.

use k8s_openapi::api::storage::v1::StorageClass;

use crate::defaults::fill;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, immutable, items, names, one_of, selector, text};

pub struct Rules;

impl Strategy for Rules {
    type Object = StorageClass;

    fn default(&self, object: &mut StorageClass) {
        fill(&mut object.reclaim_policy, "Delete".to_owned());
        fill(&mut object.volume_binding_mode, "Immediate".to_owned());
    }

    fn validate_create(&self, object: &StorageClass, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let path = Path::new("provisioner");
        if object.provisioner.is_empty() {
            errs.push(Error::required(&path, ""));
        } else {
            let lower = object.provisioner.to_lowercase();
            each(names::qualified_name(&lower), &object.provisioner, &path, &mut errs);
        }
        for key in object.parameters.iter().flatten().map(|(key, _)| key) {
            if key.is_empty() {
                errs.push(Error::invalid(&Path::new("parameters"), "", "field can not be empty."));
            }
        }
        one_of(text(&object.reclaim_policy), &["Delete", "Retain"], &Path::new("reclaimPolicy"), &mut errs);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        one_of(text(&object.volume_binding_mode), &modes, &Path::new("volumeBindingMode"), &mut errs);
        for (path, term) in items(&object.allowed_topologies, &Path::new("allowedTopologies")) {
            selector::topology_term(term, &path, &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &StorageClass, old: &StorageClass, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        if new.parameters.clone().unwrap_or_default() != old.parameters.clone().unwrap_or_default() {
            errs.push(Error::forbidden(&Path::new("parameters"), "updates to parameters are forbidden."));
        }
        if new.provisioner != old.provisioner {
            errs.push(Error::forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden."));
        }
        if new.reclaim_policy != old.reclaim_policy {
            errs.push(Error::forbidden(&Path::new("reclaimPolicy"), "updates to reclaimPolicy are forbidden."));
        }
        let path = Path::new("volumeBindingMode");
        immutable(&new.volume_binding_mode, &old.volume_binding_mode, &path, &mut errs);
        errs
    }
}
