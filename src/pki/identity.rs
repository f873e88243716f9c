//! A certificate with its key, and what can be read from a certificate.

use super::der;
use crate::base::{Failure, read_limited};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use std::net::IpAddr;
use std::path::Path;
use x509_parser::prelude::{
    FromDer, GeneralName, ParsedExtension, X509Certificate, X509CertificationRequest, X509Name,
};

const FILE_LIMIT: u64 = 256 << 10;
pub(super) const NO_KEY: &str = "it is no P-256, P-384 or RSA key";

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
        let key = der::PrivateKey::parse(key).ok_or_else(|| bad_key(NO_KEY))?;
        Ok(Identity { cert_pem: der::pem("CERTIFICATE", cert), key_pem: der::pem(key.label, &key.native) })
    }

    /// Reads both from PEM files.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, Failure> {
        let text = |path: &Path| {
            String::from_utf8(read_limited(path, FILE_LIMIT)?).map_err(|_| {
                not_text(path).fix("put the PEM file back, or remove it to have a new one issued")
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
            _ => Err(Failure::new("KE-PKI-003", "cannot read a certificate")
                .because("no PEM certificate in it")
                .fix("put one there: it begins with -----BEGIN CERTIFICATE-----")),
        }
    }

    /// The key in the form that its content has; Go labels SEC1 bytes `PRIVATE KEY`, so the label is not trusted.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, Failure> {
        let labelled = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|_| bad_key("no PEM private key in it"))?;
        PrivateKeyDer::try_from(labelled.secret_der().to_vec()).map_err(bad_key)
    }

    /// Certificate and key in DER, the key in its native form, as KubeEdge's Secrets hold them.
    pub fn ders(&self) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let cert = self.certificates()?.first().map(|cert| cert.to_vec()).unwrap_or_default();
        let key = der::PrivateKey::parse(self.key()?.secret_der()).ok_or_else(|| bad_key(NO_KEY))?;
        Ok((cert, key.native))
    }

    /// Whether the key belongs to the certificate.
    pub fn is_consistent(&self) -> bool {
        super::tls::certified(self).is_ok()
    }

    /// What the certificate says.
    pub fn facts(&self) -> Option<Facts> {
        facts_of(self.certificates().ok()?.first()?)
    }
}

pub(super) fn bad_key(why: &str) -> Failure {
    Failure::new("KE-PKI-004", "cannot use a private key")
        .because(why)
        .fix("use an EC P-256, EC P-384 or RSA key without a passphrase, as PEM")
}

/// A file that should hold PEM holds something else.
pub fn not_text(path: &Path) -> Failure {
    Failure::new("KE-PKI-003", format!("{} is not PEM text", path.display()))
        .because("it holds bytes that are no text; DER, the binary form, is not read")
        .fix("write it as PEM: openssl x509 -inform der -in FILE -out FILE.pem")
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

/// Readers differ in which of two names they take, and in the encodings that they read: whoever has two has none, and what
/// cannot be read is empty and is not left out.
fn peer(name: &X509Name<'_>) -> Peer {
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().map(str::to_owned).unwrap_or_default()
    };
    let mut names = name.iter_common_name().map(text);
    let common_name = names.next().filter(|_| names.next().is_none()).unwrap_or_default();
    Peer { common_name, organizations: name.iter_organization().map(text).collect() }
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
    names.value.general_names.iter().filter_map(host).collect()
}

/// The fingerprint of the public key in a certificate in DER, the same that [`csr_key`] answers for its request; empty
/// when it cannot be read.
pub fn cert_key(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return String::new() };
    super::fingerprint(certificate.public_key().raw)
}

/// The fingerprint of the public key in a signing request; empty when it cannot be read.
pub fn csr_key(der: &[u8]) -> String {
    let Ok((_, request)) = X509CertificationRequest::from_der(der) else { return String::new() };
    super::fingerprint(request.certification_request_info.subject_pki.raw)
}

/// The host names and addresses that a signing request asks for.
pub fn csr_names(der: &[u8]) -> Vec<String> {
    let Ok((_, request)) = X509CertificationRequest::from_der(der) else { return Vec::new() };
    let extensions = request.requested_extensions().into_iter().flatten();
    let names = extensions.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(names),
        _ => None,
    });
    names.flat_map(|names| names.general_names.iter().filter_map(host)).collect()
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    }
}

/// The certificates of a PEM text in DER; fails when there is none.
pub fn certificates_of(pem: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let identity = Identity { cert_pem: pem.to_owned(), key_pem: String::new() };
    Ok(identity.certificates()?.iter().map(|cert| cert.to_vec()).collect())
}

/// Whether a server may show this certificate: that of a node is for clients only.
pub fn serves_hosts(identity: &Identity) -> bool {
    let Ok(chain) = identity.certificates() else { return false };
    let parsed = chain.first().and_then(|cert| X509Certificate::from_der(cert).ok());
    let usage = parsed.as_ref().and_then(|(_, cert)| cert.extended_key_usage().ok().flatten());
    parsed.is_some() && usage.is_none_or(|usage| usage.value.any || usage.value.server_auth)
}

/// For whom a signing request asks; `None` when it cannot be read, or when something follows it.
pub fn csr_peer(der: &[u8]) -> Option<Peer> {
    let request = CertificateSigningRequestDer::from(der);
    let (rest, request) = X509CertificationRequest::from_der(&request).ok()?;
    rest.is_empty().then(|| peer(&request.certification_request_info.subject))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;
    use std::fs;

    #[test]
    fn a_certificate_and_its_request_have_one_key() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let asked = crate::pki::Request::new("a", &[]).unwrap();
        let life = std::time::Duration::from_secs(60);
        let signed = authority.sign_csr(&asked.csr_der, life, crate::pki::Usages::CLIENT).unwrap();
        assert_eq!(cert_key(&signed), csr_key(&asked.csr_der));
        assert_ne!(cert_key(&signed), cert_key(authority.cert_der()));
        assert_eq!(cert_key(b"no certificate"), "");
    }

    #[test]
    fn a_request_asks_for_one_name_and_for_nothing_that_cannot_be_read() {
        let of = |names: &[(rcgen::DnType, rcgen::DnValue)]| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in names {
                params.distinguished_name.push(kind.clone(), value.clone());
            }
            let key = rcgen::KeyPair::generate().unwrap();
            csr_peer(params.serialize_request(&key).unwrap().der()).unwrap()
        };
        let utf8 = |text: &str| rcgen::DnValue::Utf8String(text.to_owned());
        let name = (rcgen::DnType::CommonName, utf8("system:node:n1"));
        let group = (rcgen::DnType::OrganizationName, utf8("system:nodes"));
        let plain = of(&[name.clone(), group.clone()]);
        assert_eq!((plain.common_name.as_str(), plain.organizations.len()), ("system:node:n1", 1));
        // The same kinds of names by their numbers, so that they stand twice.
        let second = (rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]), utf8("system:node:n2"));
        assert_eq!(of(&[name.clone(), second, group.clone()]).common_name, "");
        let odd = rcgen::DnValue::TeletexString("system:masters".try_into().unwrap());
        let hidden = (rcgen::DnType::CustomDnType(vec![2, 5, 4, 10]), odd);
        assert_eq!(of(&[name, group, hidden]).organizations, ["system:nodes", ""]);
    }

    #[test]
    fn nothing_follows_a_request() {
        let mut der = crate::pki::Request::new("a", &[]).unwrap().csr_der;
        assert!(csr_peer(&der).is_some());
        der.push(0);
        assert_eq!(csr_peer(&der), None);
    }

    #[test]
    fn files_that_are_no_identity_are_told_with_their_paths() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("a.crt"), dir.path().join("a.key"));
        let own = Authority::generate("KubeEdge").unwrap().issue_client("a", &[], 1).unwrap();
        let der = certificates_of(&own.cert_pem).unwrap().remove(0);
        for (in_cert, in_key, code, why) in [
            (&der[..], own.key_pem.as_bytes(), "KE-PKI-003", "DER"),
            (b"no certificate", own.key_pem.as_bytes(), "KE-PKI-003", "no PEM certificate in it"),
            (own.cert_pem.as_bytes(), b"no key", "KE-PKI-004", "no PEM private key in it"),
        ] {
            fs::write(&cert, in_cert).unwrap();
            fs::write(&key, in_key).unwrap();
            let failure = Identity::load(&cert, &key).unwrap_err();
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.why.contains(why), "{failure}");
            assert!(failure.what.contains(&cert.display().to_string()), "{failure}");
            assert!(failure.fix.contains("new one"), "{failure:?}");
        }
        let alone = certificates_of("nothing").unwrap_err();
        assert_eq!(alone.code, "KE-PKI-003");
        alone.is_as_committed();
        assert!(alone.fix.contains("BEGIN CERTIFICATE"), "{alone:?}");
    }
}
