//! Event of `events.k8s.io`: the same object as the core group's, under other field names and stricter rules.

use k8s_openapi::api::events::v1::Event;

use super::event;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, immutable_text, text};

pub struct Rules;

impl Strategy for Rules {
    type Object = Event;

    fn default(&self, _object: &mut Event) {}

    fn validate_create(&self, object: &Event, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let namespace = text(&object.metadata.namespace);
        let namespace = if namespace.is_empty() { ctx.namespace.as_str() } else { namespace };
        let involved = object.regarding.as_ref().map_or("", |r| text(&r.namespace));
        event::agree(namespace, involved, &Path::new("involvedObject").child("namespace"), &mut errs);
        if object.event_time.is_none() {
            errs.push(Error::required(&Path::new("eventTime"), ""));
        }
        event::recorder(text(&object.reporting_controller), text(&object.reporting_instance), &mut errs);
        event::action_and_reason(text(&object.action), text(&object.reason), &mut errs);
        if !matches!(text(&object.type_), "Normal" | "Warning") {
            errs.push(Error::invalid(&Path::new("type"), "", "has invalid value: "));
        }
        if let Some(series) = &object.series
            && series.count < 2
        {
            errs.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
        }
        errs
    }

    fn validate_update(&self, new: &Event, old: &Event, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        let root = Path::default();
        immutable_text(&new.reason, &old.reason, &root.child("reason"), &mut errs);
        immutable_text(&new.note, &old.note, &root.child("note"), &mut errs);
        immutable_text(&new.type_, &old.type_, &root.child("type"), &mut errs);
        errs
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
