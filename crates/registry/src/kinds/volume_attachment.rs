//! VolumeAttachment: a volume is to be attached to a node, by whom it was once said.

use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentStatus, VolumeError};

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, IMMUTABLE, Path, each, json, names, spec, status, text};

const MAX_METADATA_BYTES: usize = 256 << 10;
const MAX_MESSAGE_BYTES: usize = 1024;

pub struct Rules;

impl Strategy for Rules {
    type Object = VolumeAttachment;

    /// Upstream always writes the status out.
    fn default(&self, object: &mut VolumeAttachment) {
        object.status.get_or_insert_with(VolumeAttachmentStatus::default);
    }

    fn prepare_create(&self, object: &mut VolumeAttachment, _ctx: &Context) {
        object.status = Some(VolumeAttachmentStatus::default());
    }

    fn prepare_update(&self, new: &mut VolumeAttachment, old: &VolumeAttachment, ctx: &Context) {
        super::keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &VolumeAttachment, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let of = &object.spec;
        super::volume_attributes_class::driver(&of.attacher, &spec().child("attacher"), &mut errs);
        source(&of.source, &spec().child("source"), &mut errs);
        each(names::dns_subdomain(&of.node_name), &of.node_name, &spec().child("nodeName"), &mut errs);
        if let Some(of) = &object.status {
            metadata(of, &mut errs);
            message(of.attach_error.as_ref(), &status().child("attachError"), &mut errs);
            message(of.detach_error.as_ref(), &status().child("detachError"), &mut errs);
        }
        errs
    }

    fn validate_update(&self, new: &VolumeAttachment, old: &VolumeAttachment, ctx: &Context) -> ErrorList {
        let mut errs = Strategy::validate_create(self, new, ctx);
        if new.spec != old.spec {
            errs.push(Error::invalid(&spec(), json(&new.spec), IMMUTABLE));
        }
        errs
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn source(source: &VolumeAttachmentSource, path: &Path, errs: &mut ErrorList) {
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&source.inline_volume_spec, &source.persistent_volume_name) {
        (None, None) => errs.push(Error::required(path, one)),
        (Some(_), Some(_)) => errs.push(Error::forbidden(path, one)),
        (None, name @ Some(_)) if text(name).is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            errs.push(Error::required(&path.child("persistentVolumeName"), detail));
        }
        _ => {}
    }
}

fn metadata(of: &VolumeAttachmentStatus, errs: &mut ErrorList) {
    let path = status().child("attachmentMetadata");
    let size: usize = of.attachment_metadata.iter().flatten().map(|(k, v)| k.len() + v.len()).sum();
    if size > MAX_METADATA_BYTES {
        errs.push(Error::too_long(&path, MAX_METADATA_BYTES));
    }
}

fn message(error: Option<&VolumeError>, path: &Path, errs: &mut ErrorList) {
    if error.is_some_and(|error| text(&error.message).len() > MAX_MESSAGE_BYTES) {
        errs.push(Error::too_long(&path.child("message"), MAX_MESSAGE_BYTES));
    }
}
