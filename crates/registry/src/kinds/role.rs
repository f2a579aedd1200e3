//! Role.

use k8s_openapi::api::rbac::v1::Role;

use crate::strategy::{Context, Strategy};
use crate::validation::{ErrorList, rbac};

pub struct Rules;

impl Strategy for Rules {
    type Object = Role;

    fn default(&self, _object: &mut Role) {}

    fn validate_create(&self, object: &Role, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        rbac::rules(&object.rules, true, &mut errs);
        errs
    }

    fn validate_update(&self, new: &Role, _old: &Role, ctx: &Context) -> ErrorList {
        Strategy::validate_create(self, new, ctx)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
