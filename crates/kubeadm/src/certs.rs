//! Carries out the layout's plan: what is missing is made, what is due is renewed, what is there and good is kept.
//! An authority is never replaced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use pki::layout::{self, Ca, Cluster};
use pki::{Authority, Facts, Leaf, Pair, inspect};

use crate::files::{self, PRIVATE, PUBLIC};

/// Where things go.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// Certificates and keys: `/etc/kubernetes/pki`.
    pub certs: PathBuf,
    /// Kubeconfigs: `/etc/kubernetes`.
    pub kubeconfigs: PathBuf,
}

/// When a leaf is made anew although it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renew {
    /// When two thirds of its life are over, or it no longer says what it should.
    Due,
    Always,
}

struct Authorities(Vec<(Ca, Authority)>);

impl Authorities {
    fn get(&self, ca: Ca) -> &Authority {
        &self.0.iter().find(|(c, _)| *c == ca).expect("all are loaded").1
    }
}

/// Certificates and service account keys; returns the files written.
pub fn ensure_certificates(
    dirs: &Dirs,
    cluster: &Cluster,
    renew: Renew,
    now: Timestamp,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let authorities = authorities(dirs, now, Some(&mut written))?;
    for wanted in layout::certificates(cluster) {
        let base = dirs.certs.join(&wanted.path);
        let authority = authorities.get(wanted.ca);
        let current = read_pair(&base)?;
        let keep =
            current.is_some_and(|pair| renew == Renew::Due && good(&pair.cert_pem, &wanted.leaf, authority, now));
        if !keep {
            let pair = authority.issue(&wanted.leaf, now).with_context(|| format!("certificate {}", wanted.path))?;
            write_pair(&base, &pair)?;
            written.push(base.with_extension("crt"));
        }
    }
    service_account_keys(dirs, &mut written)?;
    Ok(written)
}

/// Kubeconfigs; returns the files written. The certificates must be there.
pub fn ensure_kubeconfigs(
    dirs: &Dirs,
    cluster: &Cluster,
    renew: Renew,
    now: Timestamp,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let authorities = authorities(dirs, now, None)?;
    let authority = authorities.get(Ca::Cluster);
    for wanted in layout::kubeconfigs(cluster) {
        let path = dirs.kubeconfigs.join(&wanted.file);
        let keep = match files::read(&path)? {
            Some(text) if renew == Renew::Due && text.contains(&format!("{:?}", cluster.server)) => {
                embedded_certificate(&text).is_some_and(|pem| good(&pem, &wanted.leaf, authority, now))
            }
            _ => false,
        };
        if !keep {
            let pair = authority.issue(&wanted.leaf, now).with_context(|| format!("kubeconfig {}", wanted.file))?;
            let user = &wanted.leaf.common_name;
            let text = pki::kubeconfig::render(&cluster.name, &cluster.server, authority.cert_pem(), user, &pair);
            files::write(&path, &text, PRIVATE)?;
            written.push(path);
        }
    }
    Ok(written)
}

/// One line of `certs check-expiration`.
#[derive(Debug)]
pub struct Expiration {
    pub name: String,
    pub facts: Facts,
}

/// Every certificate below the directory, authorities first.
pub fn expirations(dirs: &Dirs) -> anyhow::Result<Vec<Expiration>> {
    let mut all = Vec::new();
    let mut pending = vec![dirs.certs.clone()];
    while let Some(directory) = pending.pop() {
        let entries = std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "crt") {
                let pem = files::read(&path)?.unwrap_or_default();
                let facts = inspect::facts(&pem).with_context(|| format!("{}", path.display()))?;
                let name = path.strip_prefix(&dirs.certs).unwrap_or(&path).with_extension("").display().to_string();
                all.push(Expiration { name, facts });
            }
        }
    }
    all.sort_by_key(|e| (!e.name.ends_with("ca"), e.name.clone()));
    Ok(all)
}

fn authorities(dirs: &Dirs, now: Timestamp, mut written: Option<&mut Vec<PathBuf>>) -> anyhow::Result<Authorities> {
    let mut all = Vec::new();
    for ca in Ca::ALL {
        let base = dirs.certs.join(ca.path());
        let pair = match (read_pair(&base)?, &mut written) {
            (Some(pair), _) => pair,
            (None, Some(written)) => {
                let pair = Authority::create(ca.common_name(), now)?;
                write_pair(&base, &pair)?;
                written.push(base.with_extension("crt"));
                pair
            }
            (None, None) => bail!("{}.crt is missing: run `kubeadm init phase certs all` first", base.display()),
        };
        if inspect::facts(&pair.cert_pem)?.expired(now) {
            bail!("the certificate authority {}.crt has expired: a new one must be made by hand", base.display());
        }
        all.push((ca, Authority::load(&pair).with_context(|| format!("{}.crt", base.display()))?));
    }
    Ok(Authorities(all))
}

fn good(cert_pem: &str, leaf: &Leaf, authority: &Authority, now: Timestamp) -> bool {
    let Ok(facts) = inspect::facts(cert_pem) else { return false };
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    facts.common_name == leaf.common_name
        && facts.organizations.first() == leaf.organization.as_ref()
        && set(&leaf.names).is_subset(&set(&facts.names))
        && !facts.renewal_due(now)
        && facts.is_signed_by(authority.cert_pem())
}

fn service_account_keys(dirs: &Dirs, written: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let (key, public) = (dirs.certs.join("sa.key"), dirs.certs.join("sa.pub"));
    if files::read(&key)?.is_some() && files::read(&public)?.is_some() {
        return Ok(());
    }
    let (private_pem, public_pem) = pki::service_account_keys()?;
    files::write(&key, &private_pem, PRIVATE)?;
    files::write(&public, &public_pem, PUBLIC)?;
    written.push(key);
    Ok(())
}

/// A certificate without its key, or the other way round, is a mistake that must not be papered over.
fn read_pair(base: &Path) -> anyhow::Result<Option<Pair>> {
    let (cert, key) = (base.with_extension("crt"), base.with_extension("key"));
    match (files::read(&cert)?, files::read(&key)?) {
        (Some(cert_pem), Some(key_pem)) => Ok(Some(Pair { cert_pem, key_pem })),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("{} is there, but its key {} is missing", cert.display(), key.display()),
        (None, Some(_)) => bail!("{} is there, but its certificate {} is missing", key.display(), cert.display()),
    }
}

fn write_pair(base: &Path, pair: &Pair) -> anyhow::Result<()> {
    files::write(&base.with_extension("key"), &pair.key_pem, PRIVATE)?;
    files::write(&base.with_extension("crt"), &pair.cert_pem, PUBLIC)
}

fn embedded_certificate(kubeconfig: &str) -> Option<String> {
    let line = kubeconfig.lines().find_map(|l| l.trim().strip_prefix("client-certificate-data: "))?;
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, line).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use std::os::unix::fs::PermissionsExt;

    fn cluster() -> Cluster {
        Cluster {
            name: "kubernetes".into(),
            server: "https://10.0.0.1:6443".into(),
            advertise_address: [10, 0, 0, 1].into(),
            service_address: [10, 96, 0, 1].into(),
            domain: "cluster.local".into(),
            extra_names: vec![],
            host: "cp".into(),
            nodes: vec![],
        }
    }

    fn ensure(dirs: &Dirs, cluster: &Cluster, now: Timestamp) -> Vec<String> {
        let mut written = ensure_certificates(dirs, cluster, Renew::Due, now).expect("certificates");
        written.extend(ensure_kubeconfigs(dirs, cluster, Renew::Due, now).expect("kubeconfigs"));
        written.iter().map(|p| p.file_name().expect("a file").to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_is_good_is_kept_and_what_is_due_is_renewed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let dirs = Dirs { certs: dir.path().join("pki"), kubeconfigs: dir.path().to_owned() };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a date");
        assert!(ensure(&dirs, &cluster(), now).contains(&"admin.conf".to_owned()));
        assert_eq!(ensure(&dirs, &cluster(), now), Vec::<String>::new());
        let key = std::fs::metadata(dirs.certs.join("ca.key")).expect("written");
        assert_eq!(key.permissions().mode() & 0o777, 0o600);

        let later = now + SignedDuration::from_hours(250 * 24);
        let renewed = ensure(&dirs, &cluster(), later);
        assert!(renewed.contains(&"apiserver.crt".to_owned()) && renewed.contains(&"admin.conf".to_owned()));
        assert!(!renewed.contains(&"ca.crt".to_owned()), "an authority is never replaced");

        let moved = Cluster { extra_names: vec!["example.org".into()], ..cluster() };
        assert_eq!(ensure(&dirs, &moved, later), ["apiserver.crt"]);
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let dirs = Dirs { certs: dir.path().join("pki"), kubeconfigs: dir.path().to_owned() };
        ensure(&dirs, &cluster(), Timestamp::UNIX_EPOCH);
        std::fs::remove_file(dirs.certs.join("apiserver.key")).expect("written above");
        let error = ensure_certificates(&dirs, &cluster(), Renew::Due, Timestamp::UNIX_EPOCH).expect_err("refused");
        assert!(error.to_string().contains("apiserver.key is missing"), "{error}");
    }
}
