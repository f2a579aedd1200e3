//! Namespace: carries its own name as a label, and a finalizer that keeps it until its contents are gone.

use k8s_openapi::api::core::v1::{Namespace, NamespaceSpec, NamespaceStatus};

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, each, items, metadata, names, spec, status, text};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

pub struct Rules;

impl Strategy for Rules {
    type Object = Namespace;

    fn default(&self, object: &mut Namespace) {
        if let Some(name) = object.metadata.name.clone().filter(|n| !n.is_empty()) {
            object.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
        object.spec.get_or_insert_with(NamespaceSpec::default);
        crate::defaults::fill_text(&mut object.status.get_or_insert_with(NamespaceStatus::default).phase, "Active");
    }

    fn prepare_create(&self, object: &mut Namespace, _ctx: &Context) {
        // A generated name is known only now.
        Strategy::default(self, object);
        object.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..NamespaceStatus::default() });
        let finalizers = object.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_update(&self, new: &mut Namespace, old: &Namespace, ctx: &Context) {
        new.spec.clone_from(&old.spec);
        if !ctx.status {
            new.status.clone_from(&old.status);
        }
    }

    fn validate_create(&self, object: &Namespace, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let finalizers = object.spec.as_ref().and_then(|s| s.finalizers.clone());
        for (path, finalizer) in items(&finalizers, &spec().child("finalizers")) {
            each(names::qualified_name(finalizer), finalizer, &path, &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &Namespace, _old: &Namespace, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let phase = new.status.as_ref().map_or("", |s| text(&s.phase));
        let deleting = new.metadata.deletion_timestamp.is_some();
        if ctx.status && !deleting && phase != "Active" {
            let detail = "may only be 'Active' if `deletionTimestamp` is empty";
            errs.push(Error::invalid(&status().child("phase"), phase, detail));
        } else if ctx.status && deleting && phase != "Terminating" {
            let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
            errs.push(Error::invalid(&status().child("phase"), phase, detail));
        }
        let name = text(&new.metadata.name);
        let label = new.metadata.labels.as_ref().and_then(|l| l.get(NAME_LABEL));
        if !ctx.status && label.is_some_and(|l| l != name) {
            let at = metadata().child("labels").key(NAME_LABEL);
            errs.push(Error::invalid(&at, label.map_or("", String::as_str), &format!("must be {name}")));
        }
        errs
    }
}
