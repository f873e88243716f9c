//! A certificate with its key, and what can be read from a certificate.

use super::der;
use crate::base::{Failure, read_limited};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use std::net::IpAddr;
use std::path::Path;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest, X509Name};

const FILE_LIMIT: u64 = 256 << 10;

/// A certificate (chain) and its private key, both as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts a certificate and a key in DER together.
    pub fn from_der(cert: &[u8], key: &[u8]) -> Result<Self, Failure> {
        let key = der::to_sec1(key).ok_or_else(|| bad_key("it is not a P-256 key"))?;
        Ok(Identity { cert_pem: der::pem("CERTIFICATE", cert), key_pem: der::pem("EC PRIVATE KEY", &key) })
    }

    /// Reads both from PEM files.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, Failure> {
        let text = |path: &Path| {
            String::from_utf8(read_limited(path, FILE_LIMIT)?).map_err(|_| {
                Failure::new("KE-PKI-003", format!("{} is not PEM text", path.display()))
                    .fix("put the PEM file back, or remove it to have a new one issued")
            })
        };
        let identity = Identity { cert_pem: text(cert)?, key_pem: text(key)? };
        identity.certificates().and_then(|_| identity.key()).map_err(|failure| {
            let why = failure.why.clone();
            Failure::new(failure.code, format!("cannot use {} with {}", cert.display(), key.display()))
                .because(why)
                .fix("put the files back, or remove both to have new ones issued")
        })?;
        Ok(identity)
    }

    /// The chain, the certificate itself first.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => {
                Err(Failure::new("KE-PKI-003", "cannot read a certificate")
                    .because("no PEM certificate in it"))
            }
        }
    }

    /// The key in the form that its content has; Go labels SEC1 bytes `PRIVATE KEY`, so the label is not trusted.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, Failure> {
        let labelled = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|_| bad_key("no PEM private key in it"))?;
        PrivateKeyDer::try_from(labelled.secret_der().to_vec()).map_err(bad_key)
    }

    /// What the certificate says.
    pub fn facts(&self) -> Option<Facts> {
        facts_of(self.certificates().ok()?.first()?)
    }
}

pub(super) fn bad_key(why: &str) -> Failure {
    Failure::new("KE-PKI-004", "cannot use a private key").because(why)
}

/// Who holds a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// Who holds a certificate and how long it is valid, in seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub peer: Peer,
    pub not_before: i64,
    pub not_after: i64,
}

fn peer(name: &X509Name<'_>) -> Peer {
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned).ok();
    Peer {
        common_name: name.iter_common_name().find_map(text).unwrap_or_default(),
        organizations: name.iter_organization().filter_map(text).collect(),
    }
}

/// The holder of the first certificate of a chain.
pub fn peer_of(chain: &[CertificateDer<'_>]) -> Option<Peer> {
    Some(facts_of(chain.first()?)?.peer)
}

/// What a certificate in DER says; `None` when it cannot be read.
pub fn facts_of(der: &[u8]) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(Facts {
        peer: peer(certificate.subject()),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// The host names and addresses that a certificate in DER names.
pub fn names_of(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

/// For whom a signing request asks; `None` when it cannot be read.
pub fn csr_peer(der: &[u8]) -> Option<Peer> {
    let request = CertificateSigningRequestDer::from(der);
    let (_, request) = X509CertificationRequest::from_der(&request).ok()?;
    Some(peer(&request.certification_request_info.subject))
}
