//! Certificates, and which TLS is spoken.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use daemon::tls_policy::{self, Policy};
use serde::Deserialize;

use super::{Settings, split};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileTls {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub trusted_ca_file: Option<PathBuf>,
    pub client_cert_auth: Option<bool>,
    /// Certificates that sign themselves; there are none.
    auto_tls: Option<bool>,
    /// Of members only.
    pub allowed_cn: Option<String>,
}

impl FileTls {
    /// What is empty is not set.
    pub fn check(self, section: &str) -> Result<FileTls> {
        ensure!(self.auto_tls != Some(true), "{section}: auto-tls: there are no certificates but those of files");
        let set = |file: Option<PathBuf>| file.filter(|file| !file.as_os_str().is_empty());
        Ok(FileTls {
            cert_file: set(self.cert_file),
            key_file: set(self.key_file),
            trusted_ca_file: set(self.trusted_ca_file),
            allowed_cn: self.allowed_cn.filter(|name| !name.is_empty()),
            ..self
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Callers' certificates are verified, as etcd takes this for a wish to do so.
    pub ca: Option<PathBuf>,
    /// And the names in them are users'.
    pub client_cert_auth: bool,
    /// Certificates that their authority has revoked.
    pub crl: Option<PathBuf>,
}

type File<'a> = &'a Option<PathBuf>;

/// `prefix` is what the flags of the peers' side begin with.
fn checked(prefix: &str, files: [File; 3], (crl_flag, crl): (&str, File), auth: bool) -> Result<Option<Tls>> {
    let ([cert, key, ca], client_cert_auth) = (files, auth);
    ensure!(ca.is_some() || crl.is_none(), "--{crl_flag} needs --{prefix}trusted-ca-file");
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        (None, None) => {
            let needs = format!("--{prefix}client-cert-auth needs --{prefix}cert-file and --{prefix}key-file");
            ensure!(!client_cert_auth, needs);
            return Ok(None);
        }
        _ => bail!("--{prefix}cert-file and --{prefix}key-file must be set together"),
    };
    let needs = format!("--{prefix}client-cert-auth needs --{prefix}trusted-ca-file");
    ensure!(ca.is_some() || !client_cert_auth, needs);
    Ok(Some(Tls { cert, key, client_cert_auth, ca: ca.clone(), crl: crl.clone() }))
}

pub fn of_clients(settings: &Settings) -> Result<Option<Tls>> {
    let files = [&settings.cert_file, &settings.key_file, &settings.trusted_ca_file];
    checked("", files, ("client-crl-file", &settings.client_crl_file), settings.client_cert_auth)
}

/// Certificates that no URL of the peers asks for are of no use, and need nobody to verify others'.
pub fn of_peers(settings: &Settings) -> Result<Option<Tls>> {
    let files = [&settings.peer_cert_file, &settings.peer_key_file, &settings.peer_trusted_ca_file];
    let tls = checked("peer-", files, ("peer-crl-file", &settings.peer_crl_file), settings.peer_client_cert_auth)?;
    let urls = [&settings.listen_peer_urls, &settings.initial_advertise_peer_urls, &settings.initial_cluster];
    let trusts = tls.as_ref().is_none_or(|tls| tls.ca.is_some());
    let needs = urls.iter().any(|urls| urls.contains("https://"));
    ensure!(trusts || !needs, "--peer-cert-file needs --peer-trusted-ca-file: members verify each other");
    let tls = tls.filter(|tls| tls.ca.is_some());
    let named = settings.peer_cert_allowed_cn.is_none() || tls.is_some();
    ensure!(named, "--peer-cert-allowed-cn needs --peer-cert-file and --peer-key-file");
    Ok(tls)
}

pub fn policy(settings: &Settings) -> Result<Policy> {
    let (min, max, suites) = (&settings.tls_min_version, &settings.tls_max_version, &settings.cipher_suites);
    Policy::new(min, max, split(suites)).with_context(|| match Policy::new(min, max, []) {
        Ok(_) => format!("--cipher-suites={suites}"),
        Err(tls_policy::Error::Version(wrong)) if wrong == *max => format!("--tls-max-version={max}"),
        Err(_) => format!("--tls-min-version={min}"),
    })
}
