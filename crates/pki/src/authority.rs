//! Making certificates.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::Error;

/// Authorities live ten years, leaves one, as kubeadm's do.
pub const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
pub const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Clocks differ: what is made now is valid from a little earlier.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// A certificate with its key, both in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert_pem: String,
    pub key_pem: String,
}

/// Keys stay out of logs.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server,
    /// A store member dials its peers with the certificate it serves.
    Both,
}

/// What a leaf certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The user name of a client.
    pub common_name: String,
    /// The group of a client.
    pub organization: Option<String>,
    /// IP addresses and DNS names of a server.
    pub names: Vec<String>,
    pub usage: Usage,
}

impl Leaf {
    pub fn client(user: &str, group: Option<&str>) -> Self {
        let organization = group.map(ToOwned::to_owned);
        Self { common_name: user.to_owned(), organization, names: Vec::new(), usage: Usage::Client }
    }

    pub fn server(common_name: &str, names: Vec<String>) -> Self {
        Self { common_name: common_name.to_owned(), organization: None, names, usage: Usage::Server }
    }
}

/// Signs; the one place that does.
pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new, self-signed one.
    pub fn create(common_name: &str, now: Timestamp) -> Result<Pair, Error> {
        let mut params = params(common_name, now, AUTHORITY_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = vec![SanType::DnsName(common_name.try_into()?)];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    pub fn load(pair: &Pair) -> Result<Self, Error> {
        let key = KeyPair::from_pem(&pair.key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(&pair.cert_pem, key)?;
        Ok(Self { cert_pem: pair.cert_pem.clone(), issuer })
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    pub fn issue(&self, leaf: &Leaf, now: Timestamp) -> Result<Pair, Error> {
        let mut params = params(&leaf.common_name, now, LEAF_LIFETIME)?;
        if let Some(organization) = &leaf.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match leaf.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.subject_alt_names = leaf.names.iter().map(|name| subject(name)).collect::<Result<_, _>>()?;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// The keys that sign and check service account tokens: (private, public).
pub fn service_account_keys() -> Result<(String, String), Error> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn subject(name: &str) -> Result<SanType, Error> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    name.try_into().map(SanType::DnsName).map_err(|_| Error::Name(name.to_owned()))
}

fn params(common_name: &str, now: Timestamp, lifetime: SignedDuration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = time(now.checked_sub(BACKDATE).map_err(|_| Error::Time)?)?;
    params.not_after = time(now.checked_add(lifetime).map_err(|_| Error::Time)?)?;
    Ok(params)
}

fn time(at: Timestamp) -> Result<time::OffsetDateTime, Error> {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| Error::Time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect;

    #[test]
    fn a_leaf_names_its_user_group_and_addresses() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a date");
        let ca = Authority::load(&Authority::create("kubernetes", now).expect("made")).expect("loaded");
        let leaf = Leaf {
            names: vec!["10.96.0.1".into(), "kubernetes.default".into()],
            usage: Usage::Both,
            ..Leaf::client("system:node:a", Some("system:nodes"))
        };
        let facts = inspect::facts(&ca.issue(&leaf, now).expect("issued").cert_pem).expect("parsed");
        assert_eq!(facts.common_name, "system:node:a");
        assert_eq!(facts.organizations, ["system:nodes"]);
        assert_eq!(facts.names, ["10.96.0.1", "kubernetes.default"]);
        assert!(facts.is_signed_by(ca.cert_pem()));
        assert_eq!(facts.not_after.duration_since(now), LEAF_LIFETIME);
        let other = Authority::create("kubernetes", now).expect("made");
        assert!(!facts.is_signed_by(&other.cert_pem));
    }

    #[test]
    fn a_bad_name_is_named() {
        let now = Timestamp::UNIX_EPOCH;
        let ca = Authority::load(&Authority::create("kubernetes", now).expect("made")).expect("loaded");
        let error = ca.issue(&Leaf::server("x", vec!["ä b".into()]), now).expect_err("refused");
        assert!(error.to_string().contains("ä b"), "{error}");
    }
}
