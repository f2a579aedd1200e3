//! What authorities have revoked, from a file of lists. Those of version 2 are for who verifies chains. Those of version
//! 1 it does not take, and `openssl ca -gencrl` still writes them where no `crlnumber` is configured: what they hold is
//! looked up by issuer and serial number, and believed because the file is the operator's.

use std::collections::HashSet;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::tls::Error;

#[derive(Default)]
pub struct Revoked {
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    pub plain: Plain,
}

/// Issuers, as they are encoded, with the serial numbers that they have revoked.
#[derive(Debug, Default)]
pub struct Plain(HashSet<(Vec<u8>, Vec<u8>)>);

impl Plain {
    fn add(&mut self, list: &CertificateRevocationList<'_>) {
        let issuer = list.issuer().as_raw();
        self.0.extend(list.iter_revoked_certificates().map(|gone| (issuer.to_vec(), gone.raw_serial().to_vec())));
    }

    /// One that cannot be read is held for none.
    pub fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return true };
        !self.0.is_empty() && self.0.contains(&(parsed.issuer().as_raw().to_vec(), parsed.raw_serial().to_vec()))
    }
}

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
        let (_, parsed) = CertificateRevocationList::from_der(&list)
            .map_err(|source| Error::Revoked { path: path.to_owned(), source: source.into() })?;
        if parsed.version().is_none() {
            revoked.plain.add(&parsed);
            continue;
        }
        revoked.lists.push(list);
    }
    Ok(revoked)
}
