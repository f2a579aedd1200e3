//! References to other objects.

use k8s_openapi::api::core::v1::{LocalObjectReference, SecretReference};

use super::{ErrorList, Path, items, required, text};

/// Image pull secrets without a name are ignored by upstream, but not accepted anew.
pub fn pull_secrets(list: &Option<Vec<LocalObjectReference>>, path: &Path, errs: &mut ErrorList) {
    for (path, reference) in items(list, path) {
        required(&reference.name, &path.child("name"), errs);
    }
}

pub fn secret(reference: &SecretReference, path: &Path, errs: &mut ErrorList) {
    required(text(&reference.name), &path.child("name"), errs);
    required(text(&reference.namespace), &path.child("namespace"), errs);
}
