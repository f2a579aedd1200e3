//! What authorities have revoked, from a file of lists. A certificate is looked up by its issuer and serial number, in
//! lists of version 1 as of version 2, expired ones too. Who signed a list is not asked: the file is the operator's, as
//! the authorities' own is, and a list by an authority's earlier key must not turn away whom its later one has signed.

use std::collections::HashSet;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::tls::Error;

/// In an entry that another authority than the list's has issued, whom this names.
const CERTIFICATE_ISSUER: &str = "2.5.29.29";
/// A list of what has changed since another one.
const DELTA: &str = "2.5.29.27";

/// Issuers, as they are encoded, with the serial numbers that they have revoked.
#[derive(Debug, Default)]
pub struct Revoked(HashSet<(Vec<u8>, Vec<u8>)>);

impl Revoked {
    /// The lists in a file, of PEM or one in DER.
    pub fn read(path: &Path) -> Result<Revoked, Error> {
        let failed = |source| Error::Read { what: "revoked certificates", path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(|error| failed(pem::Error::Io(error)))?;
        let mut lists: Vec<_> =
            CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(failed)?;
        if lists.is_empty() {
            lists.push(bytes.into());
        }
        let mut revoked = Revoked::default();
        for list in lists {
            revoked.add(&list).map_err(|source| Error::Revoked { path: path.to_owned(), source })?;
        }
        Ok(revoked)
    }

    fn add(&mut self, list: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (rest, list) = CertificateRevocationList::from_der(list)?;
        if !rest.is_empty() {
            return Err("there is something behind the list".into());
        }
        if list.extensions().iter().any(|extension| extension.oid.to_id_string() == DELTA) {
            return Err("a delta list tells only what has changed since another one".into());
        }
        let issuer = list.issuer().as_raw();
        for gone in list.iter_revoked_certificates() {
            if gone.extensions().iter().any(|extension| extension.oid.to_id_string() == CERTIFICATE_ISSUER) {
                return Err("an indirect list names certificates of other issuers, which is not supported".into());
            }
            self.0.insert((issuer.to_vec(), gone.raw_serial().to_vec()));
        }
        Ok(())
    }

    /// One that cannot be read is held for revoked.
    pub fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return true };
        self.0.contains(&(parsed.issuer().as_raw().to_vec(), parsed.raw_serial().to_vec()))
    }
}
