//! The certificate authority and what it issues (protocol.md §2.3). The authority may be the operator's own, with an EC
//! or RSA key; whatever it signs has a P-256 key. Callers keep the files and Secrets; nothing here writes but
//! `load_or_create`.

use super::der;
use super::identity::{Identity, NO_KEY, bad_key};
use crate::base::{Failure, create_private_dir, now, random_bytes, read_limited, write_atomic};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::Path;
use std::time::Duration;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::x509::X509Name;

const DAY: i64 = 86_400;
const CA_DAYS: i64 = 100 * 364;
/// Clocks of edge machines run late: certificates are valid from an hour ago, short-lived ones from a bit of their life.
const BACKDATE: i64 = 3_600;
const FILE_LIMIT: u64 = 256 << 10;

/// A certificate authority.
pub struct Authority {
    cert: Vec<u8>,
    key: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate signing request with the key it was made for.
pub struct Request {
    pub csr_der: Vec<u8>,
    key: Vec<u8>,
}

impl Request {
    /// A new key and a request for this name.
    pub fn new(common_name: &str, organizations: &[&str]) -> Result<Request, Failure> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, organizations);
        let csr = params.serialize_request(&key).map_err(failed)?;
        Ok(Request { csr_der: csr.der().to_vec(), key: key.serialize_der() })
    }

    /// Puts the issued certificate (DER) to the key; fails when it was issued for another key.
    pub fn fulfil(&self, cert_der: &[u8]) -> Result<Identity, Failure> {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(self.key.as_slice())).map_err(failed)?;
        let wrong = |why: &str| {
            Failure::new("KE-PKI-005", "the issued certificate cannot be used")
                .because(why)
                .fix("check that the address is that of a kedge or KubeEdge cloud")
        };
        let (_, certificate) = x509_parser::parse_x509_certificate(cert_der)
            .map_err(|_| wrong("the answer is not a certificate"))?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(wrong("it was issued for another key"));
        }
        Identity::from_der(cert_der, &self.key)
    }
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::new("KE-PKI-001", "cannot issue a certificate")
        .because(error)
        .fix("send `kedge bugreport` to the developers if it happens again")
}

/// The names of a server, as its certificate holds them; the failure says which one cannot stand in a certificate.
fn alternative_names(names: &[String]) -> Result<Vec<SanType>, Failure> {
    let read = |names: Vec<String>| CertificateParams::new(names).map(|params| params.subject_alt_names);
    read(names.to_vec()).map_err(|error| {
        let wrong = names.iter().find(|name| read(vec![(*name).clone()]).is_err());
        let why = wrong.map(|name| format!("{name:?} is no host name and no address"));
        failed(error.clone()).because(why.unwrap_or_else(|| error.to_string())).fix(
            "correct it in advertiseAddress or dnsNames of modules.cloudHub in cloudcore.yaml; letters beyond ASCII \
             are written as xn--…",
        )
    })
}

fn unreadable(why: &str) -> Failure {
    Failure::new("KE-PKI-003", "the authority's certificate cannot be read")
        .because(why)
        .fix("put the authority's certificate back from a copy; nodes trust only this one")
}

fn subject(common_name: &str, organizations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// A name as it is written when its holder signs; `None` for kinds of text that no authority uses.
fn name_of(subject: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for attribute in subject.iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter()?.collect();
        let text = attribute.as_str().ok()?;
        let value = match attribute.attr_value().header.tag() {
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().ok()?),
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            _ => return None,
        };
        name.push(DnType::from_oid(&oid), value);
    }
    Some(name)
}

fn serial() -> SerialNumber {
    let mut bytes: [u8; 8] = random_bytes();
    bytes[0] = (bytes[0] & 0x7f) | 0x01;
    SerialNumber::from_slice(&bytes)
}

/// Parameters valid between two instants in seconds since the epoch.
fn validity(from: i64, until: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or(0));
    params.not_before = epoch + seconds(from);
    params.not_after = epoch + seconds(until);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params
}

fn from_now(life: Duration) -> CertificateParams {
    let at = now().as_second();
    let life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX).min(CA_DAYS * DAY);
    validity(at - BACKDATE.min(life / 24), at + life)
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// What a certificate for a signing request may be used for; one of the two at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usages {
    pub client: bool,
    pub server: bool,
}

impl Usages {
    /// What nodes need towards the cloud.
    pub const CLIENT: Usages = Usages { client: true, server: false };
}

impl Authority {
    /// Makes a new authority with a new key.
    pub fn generate(common_name: &str) -> Result<Authority, Failure> {
        let key = KeyPair::generate().map_err(failed)?;
        let at = now().as_second();
        let mut params = validity(at - BACKDATE, at + CA_DAYS * DAY);
        params.distinguished_name = subject(common_name, &[]);
        params.serial_number = Some(SerialNumber::from_slice(&1024u16.to_be_bytes()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.self_signed(&key).map_err(failed)?;
        Authority::from_der(cert.der(), &key.serialize_der())
    }

    /// Takes an existing authority over; the key is P-256, P-384 or RSA in SEC1, PKCS#1 or PKCS#8 and must be the
    /// certificate's.
    pub fn from_der(cert: &[u8], key: &[u8]) -> Result<Authority, Failure> {
        let unusable = || bad_key("the authority's key cannot sign").fix("use an EC P-256 or an RSA key");
        let key = der::PrivateKey::parse(key).ok_or_else(|| bad_key(NO_KEY))?;
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8));
        let pair = KeyPair::try_from(&pkcs8).map_err(|_| unusable())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(cert)
            .map_err(|_| unreadable("it is no X.509 certificate"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err(Failure::new("KE-PKI-008", "the authority's key does not belong to its certificate")
                .because("the certificate holds another public key")
                .fix("put the certificate and the key that were made together"));
        }
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(cert), pair).map_err(failed)?;
        Ok(Authority { cert: cert.to_vec(), key: key.native, issuer })
    }

    /// Takes an existing authority over from PEM texts; of several certificates the first is meant.
    pub fn from_pem(cert: &str, key: &str) -> Result<Authority, Failure> {
        let identity = Identity { cert_pem: cert.to_owned(), key_pem: key.to_owned() };
        let (cert, key) = (identity.certificates()?, identity.key()?);
        Authority::from_der(cert.first().map_or(&[][..], |cert| cert), key.secret_der())
    }

    /// Reads `{stem}.crt` and `{stem}.key` below `dir`, or makes a new authority and writes them.
    pub fn load_or_create(dir: &Path, stem: &str, common_name: &str) -> Result<Authority, Failure> {
        let (cert_path, key_path) = (dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key")));
        if cert_path.exists() || key_path.exists() {
            let read = |path: &Path| read_limited(path, FILE_LIMIT);
            let wrong = |path: &Path| {
                Failure::new("KE-PKI-002", format!("cannot read the authority in {}", path.display()))
                    .because("it is not PEM")
                    .fix("put the file back from a copy; nodes trust only this authority")
            };
            let cert = CertificateDer::from_pem_slice(&read(&cert_path)?).map_err(|_| wrong(&cert_path))?;
            let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?).map_err(|_| wrong(&key_path))?;
            return Authority::from_der(&cert, key.secret_der());
        }
        let authority = Authority::generate(common_name)?;
        create_private_dir(dir)?;
        write_atomic(&key_path, der::pem("EC PRIVATE KEY", &authority.key).as_bytes(), 0o600)?;
        write_atomic(&cert_path, authority.cert_pem().as_bytes(), 0o644)?;
        Ok(authority)
    }

    /// The certificate, in DER, by which those who trust this authority trust what `successor` issues: its name and key,
    /// signed here. It is valid as long as the successor's own.
    pub fn vouch_for(&self, successor: &Authority) -> Result<Vec<u8>, Failure> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&successor.cert)
            .map_err(|_| unreadable("it is no X.509 certificate"))?;
        let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
        let mut params = validity(from.timestamp(), until.timestamp());
        params.distinguished_name = name_of(parsed.subject())
            .ok_or_else(|| unreadable("its subject is written in an unusual way"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(successor.issuer.key(), &self.issuer).map_err(failed)?;
        Ok(cert.der().to_vec())
    }

    pub fn cert_der(&self) -> &[u8] {
        &self.cert
    }

    pub fn cert_pem(&self) -> String {
        der::pem("CERTIFICATE", &self.cert)
    }

    /// The private key as KubeEdge stores it (SEC1, PKCS#1 for RSA); it is also the key of KubeEdge's join tokens.
    pub fn key_der(&self) -> &[u8] {
        &self.key
    }

    /// Lower-case hexadecimal SHA-256 of the certificate: the first part of a join token.
    pub fn hash(&self) -> String {
        super::token::sha256_hex(&self.cert)
    }

    /// Issues a server certificate for these host names and addresses.
    pub fn issue_server(&self, common_name: &str, names: &[String], days: u32) -> Result<Identity, Failure> {
        self.server(from_now(self::days(days)), common_name, names)
    }

    /// Issues a server certificate valid between two instants in seconds since the epoch.
    pub fn issue_server_between(
        &self,
        common_name: &str,
        names: &[String],
        from: i64,
        until: i64,
    ) -> Result<Identity, Failure> {
        self.server(validity(from, until), common_name, names)
    }

    fn server(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        names: &[String],
    ) -> Result<Identity, Failure> {
        params.distinguished_name = subject(common_name, &["KubeEdge"]);
        params.subject_alt_names = alternative_names(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// Issues a client certificate.
    pub fn issue_client(&self, common_name: &str, orgs: &[&str], days: u32) -> Result<Identity, Failure> {
        let mut params = from_now(self::days(days));
        params.distinguished_name = subject(common_name, orgs);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// Issues a client certificate valid between two instants in seconds since the epoch.
    pub fn issue_client_between(
        &self,
        common_name: &str,
        orgs: &[&str],
        from: i64,
        until: i64,
    ) -> Result<Identity, Failure> {
        let mut params = validity(from, until);
        params.distinguished_name = subject(common_name, orgs);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Identity, Failure> {
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Identity::from_der(cert.der(), &key.serialize_der())
    }

    /// Signs a request and returns the certificate in DER. Name, organizations, DNS names and addresses are taken over,
    /// nothing else: a node must not become an authority by asking for it.
    pub fn sign_csr(&self, csr_der: &[u8], life: Duration, usages: Usages) -> Result<Vec<u8>, Failure> {
        let refused = |why: &dyn std::fmt::Display| {
            Failure::new("KE-PKI-006", "the certificate signing request cannot be signed")
                .because(why)
                .fix("check that whoever asked is a node's daemon; the cloud's log says who did")
        };
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
            .map_err(|error| refused(&error))?;
        let peer = super::csr_peer(csr_der).ok_or_else(|| refused(&"its subject cannot be read"))?;
        let mut params = from_now(life);
        let organizations: Vec<&str> = peer.organizations.iter().map(String::as_str).collect();
        params.distinguished_name = subject(&peer.common_name, &organizations);
        params.subject_alt_names = request
            .params
            .subject_alt_names
            .into_iter()
            .filter(|name| matches!(name, SanType::DnsName(_) | SanType::IpAddress(_)))
            .collect();
        let wanted = [
            (usages.server, ExtendedKeyUsagePurpose::ServerAuth),
            (usages.client, ExtendedKeyUsagePurpose::ClientAuth),
        ];
        params.extended_key_usages =
            wanted.into_iter().filter_map(|(on, usage)| on.then_some(usage)).collect();
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&request.public_key, &self.issuer).map_err(|error| refused(&error))?;
        Ok(cert.der().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Peer, facts_of};

    #[test]
    fn an_authority_is_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), "rootCA", "KubeEdge").unwrap();
        let again = Authority::load_or_create(dir.path(), "rootCA", "KubeEdge").unwrap();
        assert_eq!(first.cert_der(), again.cert_der());
        assert_eq!(first.key_der(), again.key_der());
        let text = std::fs::read_to_string(dir.path().join("rootCA.key")).unwrap();
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----"));
    }

    #[test]
    fn a_damaged_authority_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(Authority::load_or_create(dir.path(), "ca", "x").unwrap());
        std::fs::write(dir.path().join("ca.crt"), "nonsense").unwrap();
        let failure = Authority::load_or_create(dir.path(), "ca", "x").unwrap_err();
        assert_eq!(failure.code, "KE-PKI-002");
        failure.is_as_committed();
        assert!(failure.what.contains("ca.crt"));
    }

    #[test]
    fn a_request_becomes_a_certificate_of_the_same_subject() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let request = Request::new("system:node:n1", &["system:nodes"]).unwrap();
        let cert = authority.sign_csr(&request.csr_der, days(365), Usages::CLIENT).unwrap();
        let facts = facts_of(&cert).unwrap();
        let peer =
            Peer { common_name: "system:node:n1".to_owned(), organizations: vec!["system:nodes".to_owned()] };
        assert_eq!(facts.peer, peer);
        assert_eq!(facts.not_after - facts.not_before, 365 * DAY + BACKDATE);
        assert!(request.fulfil(&cert).is_ok());
        let other = Request::new("system:node:n1", &["system:nodes"]).unwrap();
        assert_eq!(other.fulfil(&cert).unwrap_err().committed().code, "KE-PKI-005");
    }

    /// An operator's authority with an RSA key, as openssl writes it.
    const RSA_CERT: &str = include_str!("testdata/rsa.crt");
    const RSA_KEY: &str = include_str!("testdata/rsa.key");

    #[test]
    fn an_operators_authority_signs_with_any_form_of_its_key() {
        let rsa = PrivateKeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
        let pkcs8 = der::PrivateKey::parse(rsa.secret_der()).unwrap().pkcs8;
        let ec = Authority::generate("x").unwrap();
        let ec_pkcs8 = der::PrivateKey::parse(ec.key_der()).unwrap().pkcs8;
        for (cert, key, native) in [
            (RSA_CERT.to_owned(), RSA_KEY.to_owned(), rsa.secret_der()),
            (RSA_CERT.to_owned(), der::pem("PRIVATE KEY", &pkcs8), rsa.secret_der()),
            (ec.cert_pem(), der::pem("EC PRIVATE KEY", ec.key_der()), ec.key_der()),
            // Go labels what KubeEdge stores like this, whatever its form.
            (ec.cert_pem(), der::pem("PRIVATE KEY", ec.key_der()), ec.key_der()),
            (ec.cert_pem(), der::pem("PRIVATE KEY", &ec_pkcs8), ec.key_der()),
        ] {
            let authority = Authority::from_pem(&cert, &key).unwrap();
            assert_eq!(authority.key_der(), native);
            let server = authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
            let client = crate::pki::client_config(&authority.cert_pem(), None).unwrap();
            crate::pki::tls::tests::shake(
                client,
                crate::pki::server_config(&server, crate::pki::Clients::None).unwrap(),
                "127.0.0.1",
            )
            .unwrap();
        }
        let swapped = Authority::from_pem(&ec.cert_pem(), RSA_KEY).unwrap_err();
        assert_eq!(swapped.code, "KE-PKI-008");
        swapped.is_as_committed();
    }

    #[test]
    fn who_trusts_an_authority_trusts_its_successor() {
        use crate::pki::{Clients, client_config, server_config};
        super::super::install_crypto_provider();
        let rsa =
            Authority::from_pem(include_str!("testdata/rsa.crt"), include_str!("testdata/rsa.key")).unwrap();
        let generated = || Authority::generate("KubeEdge").unwrap();
        // Also when both have the same name.
        for (former, successor) in [(generated(), generated()), (rsa, generated())] {
            let link = former.vouch_for(&successor).unwrap();
            let mut identity = successor.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
            let shakes = |identity: &Identity, ca: &Authority| {
                let server = server_config(identity, Clients::None).unwrap();
                let client = client_config(&ca.cert_pem(), None).unwrap();
                let mut server = rustls::ServerConnection::new(server).unwrap();
                let mut client =
                    rustls::ClientConnection::new(client, "127.0.0.1".try_into().unwrap()).unwrap();
                let mut wire = Vec::new();
                for _ in 0..4 {
                    client.write_tls(&mut wire).unwrap();
                    server.read_tls(&mut wire.as_slice()).unwrap();
                    server.process_new_packets().unwrap();
                    wire.clear();
                    server.write_tls(&mut wire).unwrap();
                    client.read_tls(&mut wire.as_slice()).unwrap();
                    if client.process_new_packets().is_err() {
                        return false;
                    }
                    wire.clear();
                }
                !client.is_handshaking()
            };
            assert!(shakes(&identity, &successor) && !shakes(&identity, &former));
            identity.cert_pem += &der::pem("CERTIFICATE", &link);
            assert!(shakes(&identity, &successor) && shakes(&identity, &former));
            assert!(!shakes(&identity, &generated()));
        }
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_pointed_out() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let names = ["10.0.0.1".to_owned(), "wölke.example".to_owned()];
        let failure = authority.issue_server("KubeEdge", &names, 1).unwrap_err();
        assert_eq!(failure.code, "KE-PKI-001");
        failure.is_as_committed();
        assert_eq!(failure.why, "\"wölke.example\" is no host name and no address");
        assert!(failure.fix.contains("dnsNames"), "{failure:?}");
    }

    #[test]
    fn an_authority_of_nonsense_is_told_apart_from_a_wrong_key() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let no_certificate = Authority::from_der(b"nonsense", authority.key_der()).unwrap_err();
        assert_eq!(no_certificate.code, "KE-PKI-003");
        no_certificate.is_as_committed();
        assert_eq!(no_certificate.why, "it is no X.509 certificate");
        assert!(no_certificate.fix.contains("from a copy"), "{no_certificate:?}");
        let no_key = Authority::from_der(authority.cert_der(), b"nonsense").unwrap_err();
        assert_eq!(no_key.code, "KE-PKI-004");
        no_key.is_as_committed();
        assert_eq!(no_key.why, NO_KEY);
        assert!(no_key.fix.contains("P-256"), "{no_key:?}");
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let mut csr = Request::new("system:node:n1", &["system:nodes"]).unwrap().csr_der;
        let last = csr.len() - 3;
        csr[last] ^= 1;
        assert_eq!(
            authority.sign_csr(&csr, days(1), Usages::CLIENT).unwrap_err().committed().code,
            "KE-PKI-006"
        );
        assert_eq!(
            authority.sign_csr(b"nonsense", days(1), Usages::CLIENT).unwrap_err().committed().code,
            "KE-PKI-006"
        );
    }
}
