//! ServiceAccount: an identity with references to secrets; nothing in it is checked beyond its name.

use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};

use crate::strategy::{Context, Strategy};
use crate::validation::ErrorList;

pub struct Rules;

impl Strategy for Rules {
    type Object = ServiceAccount;

    fn default(&self, _object: &mut ServiceAccount) {}

    fn prepare_create(&self, object: &mut ServiceAccount, _ctx: &Context) {
        names_only(object);
    }

    fn prepare_update(&self, new: &mut ServiceAccount, _old: &ServiceAccount, _ctx: &Context) {
        names_only(new);
    }

    fn validate_create(&self, _object: &ServiceAccount, _ctx: &Context) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(&self, _new: &ServiceAccount, _old: &ServiceAccount, _ctx: &Context) -> ErrorList {
        ErrorList::new()
    }
}

/// Secrets are of the account's own namespace; of a reference to one only its name means anything.
fn names_only(object: &mut ServiceAccount) {
    for secret in object.secrets.iter_mut().flatten() {
        *secret = ObjectReference { name: secret.name.take(), ..ObjectReference::default() };
    }
}
