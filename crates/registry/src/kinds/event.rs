//! Event, as the core group has it: written by old and new recorders alike, so the stricter rules apply to those that
//! set `eventTime`.

use k8s_openapi::api::core::v1::Event;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, immutable_text, names, required, text};

const NOTE_BYTES: usize = 1024;
const SHORT_CHARACTERS: usize = 128;

pub struct Rules;

impl Strategy for Rules {
    type Object = Event;

    /// Upstream always writes these two out, null and empty.
    fn default(&self, object: &mut Event) {
        object.source.get_or_insert_default();
        object.reporting_component.get_or_insert_default();
        object.reporting_instance.get_or_insert_default();
    }

    fn validate_create(&self, object: &Event, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let namespace = text(&object.metadata.namespace);
        let namespace = if namespace.is_empty() { ctx.namespace.as_str() } else { namespace };
        let involved = text(&object.involved_object.namespace);
        agree(namespace, involved, &Path::new("involvedObject").child("namespace"), &mut errs);
        if object.event_time.is_some() {
            recorded(object, &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &Event, old: &Event, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        if new.event_time.is_some() {
            let root = Path::default();
            immutable_text(&new.reason, &old.reason, &root.child("reason"), &mut errs);
            immutable_text(&new.message, &old.message, &root.child("message"), &mut errs);
            immutable_text(&new.type_, &old.type_, &root.child("type"), &mut errs);
        }
        errs
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// An event lives beside its object; those of cluster-wide objects in `default` or `kube-system`.
pub(super) fn agree(namespace: &str, involved: &str, path: &Path, errs: &mut ErrorList) {
    let fits = match involved {
        "" => matches!(namespace, "default" | "kube-system"),
        involved => involved == namespace,
    };
    if !fits {
        errs.push(Error::invalid(path, involved, "does not match event.namespace"));
    }
}

fn recorded(e: &Event, errs: &mut ErrorList) {
    recorder(text(&e.reporting_component), text(&e.reporting_instance), errs);
    action_and_reason(text(&e.action), text(&e.reason), errs);
    if text(&e.message).len() > NOTE_BYTES {
        let detail = format!("can have at most {NOTE_BYTES} characters");
        errs.push(Error::invalid(&Path::new("message"), "", &detail));
    }
}

pub(super) fn recorder(controller: &str, instance: &str, errs: &mut ErrorList) {
    let at = Path::new("reportingController");
    required(controller, &at, errs);
    each(names::qualified_name(controller), controller, &at, errs);
    required(instance, &Path::new("reportingInstance"), errs);
    at_most(instance, "reportingIntance", errs);
}

pub(super) fn action_and_reason(action: &str, reason: &str, errs: &mut ErrorList) {
    required(action, &Path::new("action"), errs);
    at_most(action, "action", errs);
    required(reason, &Path::new("reason"), errs);
    at_most(reason, "reason", errs);
}

fn at_most(value: &str, field: &str, errs: &mut ErrorList) {
    if value.len() > SHORT_CHARACTERS {
        let detail = format!("can have at most {SHORT_CHARACTERS} characters");
        errs.push(Error::invalid(&Path::new(field), "", &detail));
    }
}
