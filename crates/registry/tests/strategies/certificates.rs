//! CertificateSigningRequest: what may be asked, and who may decide when.

use serde_json::{Value, json};

use crate::support::{approval_context, check, check_status, check_update, context, prepared, refused, with};

const KIND: &str = "CertificateSigningRequest";

pub fn request() -> Value {
    use base64::Engine as _;
    let key = rcgen::KeyPair::generate().expect("a key");
    let signed = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let pem = signed.pem().expect("PEM");
    let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
    json!({"spec": {"request": encoded, "signerName": "example.com/signer", "usages": ["client auth"]}})
}

fn decided(kind: &str) -> Value {
    with(request(), "/status/conditions", json!([{"type": kind, "status": "True"}]))
}

#[test]
fn what_is_asked() {
    let one = |field: &str, value: Value, expected: &str| {
        check(KIND, with(request(), &format!("/spec/{field}"), value), expected);
    };
    one("expirationSeconds", json!(600), "");
    let short =
        "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)";
    one("expirationSeconds", json!(599), short);
    one("usages", Value::Null, "spec.usages: Required value");
    one("usages", json!(["any", "any"]), "spec.usages[1]: Duplicate value: \"any\"");
    one("signerName", json!(""), "spec.signerName: Required value");
    let shape = "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form \
        'example.com/signer-name'";
    one("signerName", json!("a"), shape);
    let domain =
        "spec.signerName: Invalid value: \"a\": should be a domain with at least two segments separated by dots";
    one("signerName", json!("a/b"), domain);
    let legacy = "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed \
        via this API version";
    one("signerName", json!("kubernetes.io/legacy-unknown"), legacy);
    let wrong = "spec.request: Invalid value: \"YQ==\": PEM block type must be CERTIFICATE REQUEST";
    one("request", json!("YQ=="), wrong);
}

/// A request is signed by its own key.
#[test]
fn a_request_that_was_changed() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let asked = request();
    let pem = engine.decode(asked["spec"]["request"].as_str().expect("text")).expect("base64");
    let mut block = x509_parser::pem::Pem::iter_from_buffer(&pem).next().expect("one").expect("PEM");
    *block.contents.last_mut().expect("bytes") ^= 1;
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        engine.encode(&block.contents)
    );
    let changed = with(asked, "/spec/request", json!(engine.encode(pem)));
    let errors = registry::strategy_for("certificates.k8s.io", "v1", KIND).expect("a row");
    let errors = errors.validate_create(&prepared(KIND, changed), &context()).expect("decodes").to_string();
    assert!(errors.starts_with("spec.request: Invalid value"), "{errors}");
}

#[test]
fn only_those_who_approve_decide() {
    let asked = request();
    let with_status = |kind: &str| with(asked.clone(), "/status", decided(kind)["status"].clone());
    let added = |kind: &str| format!("status.conditions: Forbidden: updates may not add a condition of type {kind:?}");
    check_status(KIND, asked.clone(), with_status("Approved"), &added("Approved"));
    check_status(KIND, asked.clone(), with_status("Denied"), &added("Denied"));
    check_status(KIND, asked.clone(), with_status("Failed"), "");
    let approval = approval_context();
    refused(KIND, asked.clone(), with_status("Approved"), &approval, "");
    let both = json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "False"}]);
    let rules = registry::strategy_for("certificates.k8s.io", "v1", KIND).expect("a row");
    let mut new = with(asked.clone(), "/status/conditions", both);
    let old = prepared(KIND, asked.clone());
    rules.prepare_update(&mut new, &old, &approval).expect("decodes");
    let errors = rules.validate_update(&new, &old, &approval).expect("decodes").to_string();
    assert!(errors.contains("status.conditions[1].status: Unsupported value: \"False\""), "{errors}");
    assert!(errors.contains("Approved and Denied conditions are mutually exclusive"), "{errors}");
    // What is asked stays.
    check_update(KIND, asked.clone(), with(asked, "/spec/signerName", json!("other.com/signer")), "");
}

#[test]
fn a_certificate_is_given_once() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("signed").pem();
    let rules = registry::strategy_for("certificates.k8s.io", "v1", KIND).expect("a row");
    let status = registry::Context { status: true, ..context() };
    let old = prepared(KIND, request());
    let given = with(old.clone(), "/status/certificate", json!(engine.encode(&certificate)));
    let verdict = |old: &Value, new: &Value, ctx: &registry::Context| {
        let mut new = new.clone();
        rules.prepare_update(&mut new, old, ctx).expect("decodes");
        rules.validate_update(&new, old, ctx).expect("decodes").iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(verdict(&old, &given, &status), Vec::<String>::new());
    let gone = with(given.clone(), "/status/certificate", Value::Null);
    let fixed = "status.certificate: Forbidden: updates may not modify existing certificate data";
    assert_eq!(verdict(&given, &gone, &status), [fixed]);
    let garbage = with(old.clone(), "/status/certificate", json!(engine.encode("x")));
    let wrong = "status.certificate: Invalid value: \"<certificate data>\": must contain one or more PEM blocks";
    assert_eq!(verdict(&old, &garbage, &status), [wrong]);
}
