//! Secret: its type says which keys it must hold; `stringData` is a way in, never stored.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::config_map::{FROZEN, MAX_BYTES};
use crate::defaults::fill_text;
use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, each, immutable_text, names, text};

pub struct Rules;

impl Strategy for Rules {
    type Object = Secret;

    fn default(&self, object: &mut Secret) {
        fill_text(&mut object.type_, "Opaque");
        if let Some(strings) = object.string_data.take() {
            let data = object.data.get_or_insert_default();
            data.extend(strings.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
        }
    }

    fn prepare_update(&self, new: &mut Secret, old: &Secret, _ctx: &Context) {
        fill_text(&mut new.type_, text(&old.type_));
    }

    fn validate_create(&self, object: &Secret, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        let at = Path::new("data");
        let mut total = 0;
        for (key, value) in object.data.iter().flatten() {
            each(names::config_map_key(key), key, &at.key(key), &mut errs);
            total += value.0.len();
        }
        if total > MAX_BYTES {
            errs.push(Error::too_long(&at, MAX_BYTES));
        }
        by_type(object, &at, &mut errs);
        errs
    }

    fn validate_update(&self, new: &Secret, old: &Secret, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        immutable_text(&new.type_, &old.type_, &Path::new("type"), &mut errs);
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                errs.push(Error::forbidden(&Path::new("immutable"), FROZEN));
            }
            if new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default() {
                errs.push(Error::forbidden(&Path::new("data"), FROZEN));
            }
        }
        errs.extend(Strategy::validate_create(self, new, ctx));
        errs
    }
}

fn by_type(object: &Secret, at: &Path, errs: &mut ErrorList) {
    let value = |key: &str| object.data.as_ref().and_then(|d| d.get(key));
    let need = |key: &str, errs: &mut ErrorList| {
        if value(key).is_none() {
            errs.push(Error::required(&at.key(key), ""));
        }
    };
    match text(&object.type_) {
        "kubernetes.io/service-account-token" => service_account(object, errs),
        "kubernetes.io/dockercfg" => docker(object, ".dockercfg", at, errs),
        "kubernetes.io/dockerconfigjson" => docker(object, ".dockerconfigjson", at, errs),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            need("username", errs);
            need("password", errs);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|v| v.0.is_empty()) => {
            errs.push(Error::required(&at.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt", errs);
            need("tls.key", errs);
        }
        _ => {}
    }
}

fn service_account(object: &Secret, errs: &mut ErrorList) {
    const NAME: &str = "kubernetes.io/service-account.name";
    let named = object.metadata.annotations.as_ref().and_then(|a| a.get(NAME)).is_some_and(|n| !n.is_empty());
    if !named {
        errs.push(Error::required(&Path::new("metadata").child("annotations").key(NAME), ""));
    }
}

fn docker(object: &Secret, key: &str, at: &Path, errs: &mut ErrorList) {
    let Some(value) = object.data.as_ref().and_then(|d| d.get(key)) else {
        errs.push(Error::required(&at.key(key), ""));
        return;
    };
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&value.0) {
        errs.push(Error::invalid(&at.key(key), "<secret contents redacted>", &error.to_string()));
    }
}
