//! ClusterRoleBinding: the role it binds is given once.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;

use crate::strategy::{Context, Strategy};
use crate::validation::{ErrorList, rbac};

pub struct Rules;

impl Strategy for Rules {
    type Object = ClusterRoleBinding;

    fn default(&self, object: &mut ClusterRoleBinding) {
        rbac::default_ref(&mut object.role_ref);
        rbac::default_subjects(&mut object.subjects);
    }

    fn validate_create(&self, object: &ClusterRoleBinding, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        rbac::role_ref(&object.role_ref, &["ClusterRole"], &mut errs);
        rbac::subjects(&object.subjects, false, &mut errs);
        errs
    }

    fn validate_update(&self, new: &ClusterRoleBinding, old: &ClusterRoleBinding, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        rbac::same_ref(&new.role_ref, &old.role_ref, &mut errs);
        errs
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
