//! RuntimeClass: its handler is given once.

use k8s_openapi::api::node::v1::RuntimeClass;

use crate::strategy::{Context, Strategy};
use crate::validation::{
    Error, ErrorList, NOT_NEGATIVE, Path, each, immutable, names, resources, scheduling, selector,
};

pub struct Rules;

impl Strategy for Rules {
    type Object = RuntimeClass;

    fn default(&self, _object: &mut RuntimeClass) {}

    fn validate_create(&self, object: &RuntimeClass, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        each(names::dns_label(&object.handler), &object.handler, &Path::new("handler"), &mut errs);
        let path = Path::new("overhead").child("podFixed");
        for (name, quantity) in object.overhead.iter().flat_map(|o| o.pod_fixed.iter().flatten()) {
            resources::resource_name(name, &path.key(name), &mut errs);
            if resources::value(&quantity.0).is_some_and(|v| v.is_negative()) {
                errs.push(Error::invalid(&path.key(name), quantity.0.as_str(), NOT_NEGATIVE));
            }
        }
        if let Some(s) = &object.scheduling {
            let path = Path::new("scheduling");
            selector::labels(&s.node_selector, &path.child("nodeSelector"), &mut errs);
            scheduling::tolerations(&s.tolerations, &path.child("tolerations"), &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &RuntimeClass, old: &RuntimeClass, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        immutable(&new.handler, &old.handler, &Path::new("handler"), &mut errs);
        errs
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
