//! Reading a kubeconfig: the current context's server, trust and identity.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::CertifiedKey;
use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{} is not a kubeconfig: {}", .0.display(), .1)]
    Parse(PathBuf, String),
    #[error("{}: {}", .0.display(), .1)]
    Invalid(PathBuf, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

/// What the current context says.
#[derive(Debug)]
pub struct Kubeconfig {
    pub server: http::Uri,
    pub namespace: String,
    pub ca: Vec<CertificateDer<'static>>,
    pub identity: Option<CertifiedKey>,
    pub token: Option<String>,
    /// This file and every file it refers to.
    pub files: Vec<PathBuf>,
}

/// Reads the file and everything it points at; relative paths are relative to it.
pub fn read(path: &Path) -> Result<Kubeconfig, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::Read(path.to_owned(), e))?;
    let file: File = daemon::config::yaml(&text).map_err(|e| Error::Parse(path.to_owned(), e.to_string()))?;
    let invalid = |why: String| Error::Invalid(path.to_owned(), why);
    let context = file.contexts.iter().find(|c| c.name == file.current_context);
    let context =
        &context.ok_or_else(|| invalid(format!("no context {:?} (current-context)", file.current_context)))?.context;
    let cluster = file.clusters.iter().find(|c| c.name == context.cluster);
    let cluster = &cluster.ok_or_else(|| invalid(format!("no cluster {:?}", context.cluster)))?.cluster;
    let user = file.users.iter().find(|u| u.name == context.user);
    let user = &user.ok_or_else(|| invalid(format!("no user {:?}", context.user)))?.user;
    let server = cluster.server.parse().map_err(|e| invalid(format!("server {:?}: {e}", cluster.server)))?;

    let mut sources = Sources { base: path.parent().unwrap_or(Path::new(".")), files: vec![path.to_owned()] };
    let ca = sources.pem(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref());
    let cert = sources.pem(user.client_certificate_data.as_deref(), user.client_certificate.as_deref());
    let key = sources.pem(user.client_key_data.as_deref(), user.client_key.as_deref());
    let ca = ca.map_err(|e| invalid(format!("certificate-authority: {e}")))?;
    let ca = ca.ok_or_else(|| invalid("the cluster has no certificate-authority".into()))?;
    let cert = cert.map_err(|e| invalid(format!("client-certificate: {e}")))?;
    let key = key.map_err(|e| invalid(format!("client-key: {e}")))?;
    Ok(Kubeconfig {
        server,
        namespace: context.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        ca: certificates(&ca).map_err(|e| invalid(format!("certificate-authority: {e}")))?,
        identity: match (cert, key) {
            (Some(cert), Some(key)) => Some(identity(&cert, &key).map_err(invalid)?),
            (None, None) => None,
            _ => return Err(invalid("client-certificate and client-key belong together".into())),
        },
        token: user.token.clone(),
        files: sources.files,
    })
}

struct Sources<'a> {
    base: &'a Path,
    files: Vec<PathBuf>,
}

impl Sources<'_> {
    /// Inline data wins over a file, as in kubectl.
    fn pem(&mut self, data: Option<&str>, file: Option<&Path>) -> Result<Option<Vec<u8>>, String> {
        if let Some(data) = data.filter(|d| !d.is_empty()) {
            return STANDARD.decode(data.trim()).map(Some).map_err(|e| format!("not base64: {e}"));
        }
        let Some(file) = file else { return Ok(None) };
        let file = self.base.join(file);
        let bytes = std::fs::read(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        self.files.push(file);
        Ok(Some(bytes))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    if certs.is_empty() { Err("holds no certificate".into()) } else { Ok(certs) }
}

fn identity(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("client-key: {e}"))?;
    let certs = certificates(cert).map_err(|e| format!("client-certificate: {e}"))?;
    CertifiedKey::from_der(certs, key, &daemon::tls::provider())
        .map_err(|e| format!("client-certificate and client-key: {e}"))
}
