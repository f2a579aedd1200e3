//! Reading certificates: whose, for what names, until when.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::Error;

/// What a certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    der: Vec<u8>,
}

impl Facts {
    /// Renewal is due when two thirds of the lifetime have passed.
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        let lifetime = self.not_after.duration_since(self.not_before);
        now.duration_since(self.not_before) >= lifetime * 2 / 3
    }

    pub fn expired(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }

    pub fn is_signed_by(&self, authority_pem: &str) -> bool {
        let Ok(authority) = der(authority_pem) else { return false };
        let (Ok((_, leaf)), Ok((_, authority))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority))
        else {
            return false;
        };
        leaf.verify_signature(Some(authority.public_key())).is_ok()
    }
}

fn der(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Parse(e.to_string()))
}

/// Reads the first certificate of a PEM text.
pub fn facts(pem: &str) -> Result<Facts, Error> {
    let der = der(pem)?;
    let (_, cert) = X509Certificate::from_der(&der).map_err(|e| Error::Parse(e.to_string()))?;
    let texts = |attributes: Vec<Option<String>>| attributes.into_iter().flatten().collect::<Vec<_>>();
    let subject = cert.subject();
    let common_name = subject.iter_common_name().map(|a| a.as_str().ok().map(ToOwned::to_owned)).collect();
    let organizations = subject.iter_organization().map(|a| a.as_str().ok().map(ToOwned::to_owned)).collect();
    let names = match cert.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(name).collect(),
        _ => Vec::new(),
    };
    let time = |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).map_err(|_| Error::Time);
    Ok(Facts {
        common_name: texts(common_name).into_iter().next().unwrap_or_default(),
        organizations: texts(organizations),
        names,
        not_before: time(cert.validity().not_before)?,
        not_after: time(cert.validity().not_after)?,
        der: der.to_vec(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(IpAddr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    }
}
