//! ControllerRevision: a snapshot that never changes; only its number may.

use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, immutable, non_negative};

pub struct Rules;

impl Strategy for Rules {
    type Object = ControllerRevision;

    fn default(&self, _object: &mut ControllerRevision) {}

    fn validate_create(&self, object: &ControllerRevision, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if object.data.is_none() {
            errs.push(Error::required(&Path::new("data"), "data is mandatory"));
        }
        non_negative(object.revision, &Path::new("revision"), &mut errs);
        errs
    }

    fn validate_update(&self, new: &ControllerRevision, old: &ControllerRevision, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        immutable(&new.data, &old.data, &Path::new("data"), &mut errs);
        errs
    }
}
