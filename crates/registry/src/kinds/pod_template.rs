//! PodTemplate: a template by itself.

use k8s_openapi::api::core::v1::PodTemplate;

use crate::defaults::template;
use crate::strategy::{Context, Strategy};
use crate::validation::{ErrorList, Path, template as check};
use crate::warnings;

pub struct Rules;

impl Strategy for Rules {
    type Object = PodTemplate;

    fn default(&self, object: &mut PodTemplate) {
        template::template(object.template.get_or_insert_default());
    }

    fn validate_create(&self, object: &PodTemplate, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        check::template(&object.template.clone().unwrap_or_default(), &Path::new("template"), &mut errs);
        errs
    }

    fn validate_update(&self, new: &PodTemplate, _old: &PodTemplate, ctx: &Context) -> ErrorList {
        Strategy::validate_create(self, new, ctx)
    }

    fn warnings(&self, object: &PodTemplate) -> Vec<String> {
        object.template.as_ref().map(|t| warnings::template(t, &Path::new("template"))).unwrap_or_default()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
