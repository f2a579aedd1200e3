//! Requests for certificates.

use jiff::SignedDuration;
use serde_json::Value;

use super::{NONE, age, age_column, column, list, printer, text, text_or};
use crate::table::Printer;
use crate::{duration, meta};

pub fn certificate_signing_request() -> Printer {
    let columns = vec![
        age_column(),
        column("SignerName", "string", "The signer that is asked."),
        column("Requestor", "string", "Whoever asks."),
        column("RequestedDuration", "string", "How long the certificate is to be valid."),
        column("Condition", "string", "What has become of the request."),
    ];
    printer(columns, |request, now| {
        let asked = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
        let asked = asked.map_or_else(|| NONE.to_owned(), |s| duration::human(SignedDuration::from_secs(s)));
        vec![
            meta::name(request).into(),
            age(request, now),
            text_or(request, "/spec/signerName", NONE).into(),
            text(request, "/spec/username").into(),
            asked.into(),
            condition(request).into(),
        ]
    })
}

fn condition(request: &Value) -> String {
    let has = |kind: &str| list(request, "/status/conditions").iter().any(|c| c["type"] == kind);
    let decided = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text(request, "/status/certificate").is_empty() { "" } else { ",Issued" };
    format!("{decided}{failed}{issued}")
}
