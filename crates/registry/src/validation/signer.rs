//! What signers are called, and the PEM that they are given and give.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::{Error, ErrorList, Path, names};

const MAX_DOMAIN: usize = 253;
const MAX_NAME: usize = MAX_DOMAIN + 1 + 253 + 63 + 1;
const SHAPE: &str = "must be a fully qualified domain and path of the form 'example.com/signer-name'";

pub fn name(value: &str, path: &Path, errs: &mut ErrorList) {
    if value.is_empty() {
        errs.push(Error::required(path, ""));
        return;
    }
    let Some((domain, rest)) = value.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        errs.push(Error::invalid(path, value, SHAPE));
        return;
    };
    if domain.len() > MAX_DOMAIN {
        errs.push(Error::too_long(path, MAX_DOMAIN));
    }
    labels(domain, names::dns_label, path, errs);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errs.push(Error::invalid(path, domain, detail));
    }
    labels(rest, names::dns_subdomain, path, errs);
    if value.len() > MAX_NAME {
        errs.push(Error::too_long(path, MAX_NAME));
    }
}

/// What the first wrong one between the dots is wrong with.
fn labels(text: &str, rule: fn(&str) -> Vec<String>, path: &Path, errs: &mut ErrorList) {
    let found = text.split('.').map(|label| (label, rule(label))).find(|(_, wrong)| !wrong.is_empty());
    let Some((label, wrong)) = found else { return };
    for why in wrong {
        errs.push(Error::invalid(path, text, &format!("validating label {label:?}: {why}")));
    }
}

fn blocks(pem: &[u8]) -> impl Iterator<Item = Pem> {
    Pem::iter_from_buffer(pem).map_while(Result::ok)
}

/// A request, signed by the key that it is for.
pub fn request(pem: &[u8]) -> Result<(), String> {
    let block = blocks(pem).next().filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|e| e.to_string())?;
    request.verify_signature().map_err(|e| e.to_string())
}

/// One certificate or several.
pub fn certificates(pem: &[u8]) -> Result<(), String> {
    let mut found = false;
    for block in blocks(pem) {
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        block.parse_x509().map_err(|e| e.to_string())?;
        found = true;
    }
    if found { Ok(()) } else { Err("must contain one or more PEM blocks".to_owned()) }
}
