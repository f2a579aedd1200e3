//! Who asks for a certificate, and who may approve and sign it: CertificateApproval, CertificateSigning and
//! CertificateSubjectRestriction.

use api::{ApiError, meta};
use base64::Engine as _;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::{Attributes, Operation};
use crate::authn::MASTERS;
use crate::authz;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// A request is its creator's.
pub fn admit(a: &Attributes<'_>, request: &mut Value) {
    if !is_request(a, "") || a.operation != Operation::Create {
        return;
    }
    let Some(spec) = request.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let user = a.writer.user;
    for (field, value) in [("username", &user.name), ("uid", &user.uid)] {
        spec.remove(field);
        if !value.is_empty() {
            spec.insert(field.to_owned(), json!(value));
        }
    }
    spec.insert("groups".to_owned(), json!(user.groups));
    spec.remove("extra");
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

pub fn check(a: &Attributes<'_>, request: &Value) -> Result<(), ApiError> {
    let signer = request.pointer("/spec/signerName").and_then(Value::as_str).unwrap_or_default();
    let old = a.old.unwrap_or(&Value::Null);
    match a.operation {
        Operation::Create if is_request(a, "") && signer == CLIENT_SIGNER => subject(a, request),
        Operation::Update if is_request(a, "approval") => permitted(a, request, signer, "approve"),
        Operation::Update if is_request(a, "status") && is_signed(old, request) => {
            permitted(a, request, signer, "sign")
        }
        _ => Ok(()),
    }
}

fn is_request(a: &Attributes<'_>, subresource: &str) -> bool {
    a.subresource == subresource && a.kind.is(GROUP, "certificatesigningrequests")
}

/// A signer's work is the certificate, or that there will be none.
fn is_signed(old: &Value, new: &Value) -> bool {
    ["certificate", "conditions"].iter().any(|field| old["status"][field] != new["status"][field])
}

/// For the signer itself, or for all of its domain.
fn permitted(a: &Attributes<'_>, request: &Value, signer: &str, verb: &str) -> Result<(), ApiError> {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let allowed = [signer, &format!("{domain}/*")].iter().any(|name| {
        let asked = authz::Attributes::resource(verb, GROUP, "signers", "", name);
        a.api.rbac.decide(a.writer.user, &asked).allowed
    });
    if allowed {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(a.refuse(meta::name(request), &why))
}

/// Nobody becomes an administrator by a request.
fn subject(a: &Attributes<'_>, request: &Value) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(a.refuse(meta::name(request), why));
    let encoded = request.pointer("/spec/request").and_then(Value::as_str).unwrap_or_default();
    let pem = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    let Some(Ok(block)) = Pem::iter_from_buffer(&pem).next() else { return Ok(()) };
    let Ok((_, parsed)) = X509CertificationRequest::from_der(&block.contents) else {
        return refuse("could not parse CSR");
    };
    let mut groups = parsed.certification_request_info.subject.iter_organization();
    if groups.any(|group| group.as_str() == Ok(MASTERS)) {
        return refuse(&format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"));
    }
    Ok(())
}
