//! The serving certificate: configured, or one made for this node when there is none.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use daemon::tls::{ClientAuth, ReloadingCert, server_config};
use daemon::trust::ClientTrust;
use jiff::Timestamp;

use crate::config::Settings;

pub struct Tls {
    pub config: Arc<rustls::ServerConfig>,
    /// Whose client certificates name users, if anybody's do.
    pub clients: Option<Arc<ClientTrust>>,
}

/// Needs a runtime.
pub fn config(settings: &Settings) -> anyhow::Result<Tls> {
    let configured = settings.config.tls_cert_file.clone().zip(settings.config.tls_private_key_file.clone());
    let (cert, key) = match configured {
        Some(pair) => pair,
        None => own_certificate(settings)?,
    };
    let cert = ReloadingCert::load(&cert, &key)?;
    let ca = settings.config.authentication.x509.client_ca_file.as_deref();
    let clients = ca.map(ClientTrust::load).transpose()?;
    let asked = clients.as_ref().map_or(ClientAuth::None, ClientAuth::Requested);
    Ok(Tls { config: Arc::new(server_config(cert, asked, &["http/1.1"])?), clients })
}

fn own_certificate(settings: &Settings) -> anyhow::Result<(PathBuf, PathBuf)> {
    let dir = settings.root_dir.join("pki");
    let (cert, key) = (dir.join("kubelet.crt"), dir.join("kubelet.key"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let now = Timestamp::now();
    let name = &settings.node_name;
    let authority = pki::Authority::load(&pki::Authority::create(&format!("{name}-ca"), now)?)?;
    let mut names = vec![name.clone()];
    names.extend(settings.node_ips.iter().map(ToString::to_string));
    let pair = authority.issue(&pki::Leaf::server(name, names), now)?;
    std::fs::write(&cert, &pair.cert_pem).with_context(|| format!("cannot write {}", cert.display()))?;
    write_private(&key, &pair.key_pem).with_context(|| format!("cannot write {}", key.display()))?;
    Ok((cert, key))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
