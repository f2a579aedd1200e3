//! CertificateSigningRequest: asked by whoever made it, approved or denied once, and signed once.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition as Condition, CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, Path, json, signer, spec, status};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const MIN_SECONDS: i32 = 600;
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

pub struct Rules;

impl Strategy for Rules {
    type Object = CertificateSigningRequest;

    /// Upstream always writes the status out.
    fn default(&self, object: &mut CertificateSigningRequest) {
        object.status.get_or_insert_with(CertificateSigningRequestStatus::default);
    }

    fn prepare_create(&self, object: &mut CertificateSigningRequest, _ctx: &Context) {
        object.status = Some(CertificateSigningRequestStatus::default());
    }

    fn prepare_update(&self, new: &mut CertificateSigningRequest, old: &CertificateSigningRequest, ctx: &Context) {
        new.spec.clone_from(&old.spec);
        if !ctx.status {
            new.status.clone_from(&old.status);
            return;
        }
        if ctx.approval {
            let conditions = new.status.take().and_then(|status| status.conditions);
            new.status.clone_from(&old.status);
            new.status.get_or_insert_default().conditions = conditions;
        }
        let known = conditions(old);
        for condition in new.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()) {
            note_times(condition, known, ctx);
        }
    }

    fn validate_create(&self, object: &CertificateSigningRequest, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        asked(&object.spec, &mut errs);
        given(object, &CertificateSigningRequest::default(), &mut errs);
        errs
    }

    fn validate_update(
        &self,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
        ctx: &Context,
    ) -> ErrorList {
        let mut errs = ErrorList::new();
        asked(&new.spec, &mut errs);
        given(new, old, &mut errs);
        decisions(new, old, ctx, &mut errs);
        let (now, before) = (certificate(new), certificate(old));
        if now != before {
            let path = status().child("certificate");
            if !ctx.status || ctx.approval {
                errs.push(Error::forbidden(&path, "updates may not set certificate data"));
            } else if !before.is_empty() {
                errs.push(Error::forbidden(&path, "updates may not modify existing certificate data"));
            }
        }
        errs
    }
}

fn conditions(of: &CertificateSigningRequest) -> &[Condition] {
    of.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn certificate(of: &CertificateSigningRequest) -> &[u8] {
    of.status.as_ref().and_then(|status| status.certificate.as_ref()).map_or(&[], |bytes| &bytes.0)
}

fn note_times(condition: &mut Condition, known: &[Condition], ctx: &Context) {
    let now = || Time(ctx.now);
    condition.last_update_time.get_or_insert_with(now);
    if condition.last_transition_time.is_none() {
        let same = known.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        condition.last_transition_time =
            Some(same.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(now));
    }
}

fn asked(of: &CertificateSigningRequestSpec, errs: &mut ErrorList) {
    if let Err(why) = signer::request(&of.request.0) {
        errs.push(Error::invalid(&spec().child("request"), json(&of.request), &why));
    }
    usages(of.usages.as_deref().unwrap_or_default(), &spec().child("usages"), errs);
    let path = spec().child("signerName");
    if of.signer_name == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errs.push(Error::invalid(&path, LEGACY_SIGNER, detail));
    } else {
        signer::name(&of.signer_name, &path, errs);
    }
    if let Some(seconds) = of.expiration_seconds.filter(|seconds| *seconds < MIN_SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errs.push(Error::invalid(&spec().child("expirationSeconds"), seconds, detail));
    }
}

fn usages(usages: &[String], path: &Path, errs: &mut ErrorList) {
    if usages.is_empty() {
        errs.push(Error::required(path, ""));
    }
    for (n, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(&usage.as_str())) {
        errs.push(Error::not_supported(&path.index(n), usage.as_str(), USAGES));
    }
    let mut seen = BTreeSet::new();
    for (n, usage) in usages.iter().enumerate() {
        if !seen.insert(usage) {
            errs.push(Error::duplicate(&path.index(n), usage.as_str()));
        }
    }
}

/// What has been decided and signed, as far as it is not what it was.
fn given(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errs: &mut ErrorList) {
    let path = status().child("conditions");
    if conditions(new) != conditions(old) {
        well_formed(conditions(new), &path, errs);
    }
    let signed = certificate(new);
    if !signed.is_empty()
        && signed != certificate(old)
        && let Err(why) = signer::certificates(signed)
    {
        errs.push(Error::invalid(&status().child("certificate"), "<certificate data>", &why));
    }
}

fn well_formed(list: &[Condition], path: &Path, errs: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (n, condition) in list.iter().enumerate() {
        let at = path.index(n);
        if condition.type_.is_empty() {
            errs.push(Error::required(&at.child("type"), ""));
        }
        let allowed: &[&str] = match condition.type_.as_str() {
            APPROVED | DENIED | FAILED => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        match condition.status.as_str() {
            "" => errs.push(Error::required(&at.child("status"), "")),
            given if !allowed.contains(&given) => {
                errs.push(Error::not_supported(&at.child("status"), given, allowed));
            }
            _ => {}
        }
        if !seen.insert(condition.type_.as_str()) {
            errs.push(Error::duplicate(&at.child("type"), condition.type_.as_str()));
        }
    }
    if seen.contains(APPROVED) && seen.contains(DENIED) {
        let detail = "Approved and Denied conditions are mutually exclusive";
        errs.push(Error::invalid(path, json(&list), detail));
    }
}

/// Decisions stay, and only those who approve add or change them.
fn decisions(new: &CertificateSigningRequest, old: &CertificateSigningRequest, ctx: &Context, errs: &mut ErrorList) {
    let path = status().child("conditions");
    let of = |object, kind: &str| -> Vec<&Condition> {
        conditions(object).iter().filter(|condition| condition.type_ == kind).collect()
    };
    let mut refuse = |what: &str, kind: &str| {
        errs.push(Error::forbidden(&path, &format!("updates may not {what} a condition of type {kind:?}")));
    };
    for kind in [APPROVED, DENIED, FAILED] {
        if of(new, kind).len() < of(old, kind).len() {
            refuse("remove", kind);
        }
    }
    for kind in [APPROVED, DENIED].into_iter().filter(|_| !ctx.approval) {
        let (now, before) = (of(new, kind), of(old, kind));
        if now.len() > before.len() {
            refuse("add", kind);
        } else if now.len() == before.len() && now != before {
            refuse("modify", kind);
        }
    }
}
