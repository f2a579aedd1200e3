//! RoleBinding: the role it binds is given once.

use k8s_openapi::api::rbac::v1::RoleBinding;

use crate::strategy::{Context, Strategy};
use crate::validation::{ErrorList, rbac};

pub struct Rules;

impl Strategy for Rules {
    type Object = RoleBinding;

    fn default(&self, object: &mut RoleBinding) {
        rbac::default_ref(&mut object.role_ref);
        rbac::default_subjects(&mut object.subjects);
    }

    fn validate_create(&self, object: &RoleBinding, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        rbac::role_ref(&object.role_ref, &["ClusterRole", "Role"], &mut errs);
        rbac::subjects(&object.subjects, true, &mut errs);
        errs
    }

    fn validate_update(&self, new: &RoleBinding, old: &RoleBinding, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        rbac::same_ref(&new.role_ref, &old.role_ref, &mut errs);
        errs
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
