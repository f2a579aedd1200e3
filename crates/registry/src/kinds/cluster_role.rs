//! ClusterRole.

use k8s_openapi::api::rbac::v1::ClusterRole;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, items, rbac, selector};

pub struct Rules;

impl Strategy for Rules {
    type Object = ClusterRole;

    fn default(&self, _object: &mut ClusterRole) {}

    fn validate_create(&self, object: &ClusterRole, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        rbac::rules(&object.rules, false, &mut errs);
        if let Some(rule) = &object.aggregation_rule {
            let path = Path::new("aggregationRule").child("clusterRoleSelectors");
            if rule.cluster_role_selectors.as_ref().is_none_or(Vec::is_empty) {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errs.push(Error::required(&path, detail));
            }
            for (path, s) in items(&rule.cluster_role_selectors, &path) {
                selector::label_selector(s, &path, &mut errs);
            }
        }
        errs
    }

    fn validate_update(&self, new: &ClusterRole, _old: &ClusterRole, ctx: &Context) -> ErrorList {
        Strategy::validate_create(self, new, ctx)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
