//! rustls configurations from identities and authorities. The crypto provider is chosen here and nowhere else.

use super::identity::Identity;
use crate::base::Failure;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// Makes ring the provider of every library that asks for the process's default; call it first in `main`.
pub fn install_crypto_provider() {
    // A second call (tests) finds the first one's choice, which is the same.
    drop(ring::default_provider().install_default());
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Which client certificates a server asks for; the text is the PEM of the authority they must come from.
#[derive(Clone, Copy, Debug)]
pub enum Clients<'a> {
    None,
    Optional(&'a str),
    Required(&'a str),
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new("KE-PKI-007", "cannot set TLS up")
        .because(error)
        .fix("check the certificate, the key and the authority")
}

fn roots(ca_pem: &str) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(failed)?).map_err(failed)?;
    }
    if roots.is_empty() {
        return Err(failed("the authority's certificate is missing"));
    }
    Ok(roots)
}

pub(super) fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, Failure> {
    let certified = CertifiedKey::from_der(identity.certificates()?, identity.key()?, &provider());
    Ok(Arc::new(certified.map_err(failed)?))
}

fn server(resolver: Arc<dyn ResolvesServerCert>, clients: Clients<'_>) -> Result<Arc<ServerConfig>, Failure> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let verifier = |ca: &str| -> Result<_, Failure> {
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider()))
    };
    let builder = match clients {
        Clients::None => builder.with_no_client_auth(),
        Clients::Optional(ca) => {
            builder.with_client_cert_verifier(verifier(ca)?.allow_unauthenticated().build().map_err(failed)?)
        }
        Clients::Required(ca) => builder.with_client_cert_verifier(verifier(ca)?.build().map_err(failed)?),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A server that offers HTTP/2 and HTTP/1.1 with one certificate.
pub fn server_config(identity: &Identity, clients: Clients<'_>) -> Result<Arc<ServerConfig>, Failure> {
    server(Arc::new(Fixed(certified(identity)?)), clients)
}

/// The configuration of a server as it is now: each handshake takes the newest, connections keep what they began with.
#[derive(Clone, Debug)]
pub struct LiveTls(watch::Receiver<Arc<ServerConfig>>);

impl LiveTls {
    /// A configuration that whoever holds the sender replaces.
    pub fn new(config: Arc<ServerConfig>) -> (watch::Sender<Arc<ServerConfig>>, LiveTls) {
        let (sender, receiver) = watch::channel(config);
        (sender, LiveTls(receiver))
    }

    /// For the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.borrow().clone()
    }
}

impl From<Arc<ServerConfig>> for LiveTls {
    /// One that stays.
    fn from(config: Arc<ServerConfig>) -> LiveTls {
        LiveTls::new(config).1
    }
}

/// Files of keys and certificates, and whether they have been replaced since they were last looked at.
#[derive(Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Option<(SystemTime, u64)>>,
}

impl WatchedFiles {
    /// Notes the files as they are; they may be missing. Blocks.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> WatchedFiles {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let seen = paths.iter().map(|path| stamp(path)).collect();
        WatchedFiles { paths, seen }
    }

    /// Whether one of them has come, gone or changed since the last call. Blocks.
    pub fn have_changed(&mut self) -> bool {
        let now: Vec<_> = self.paths.iter().map(|path| stamp(path)).collect();
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

/// A client that trusts this authority only and shows a certificate when it has one. It offers no ALPN protocol.
pub fn client_config(ca_pem: &str, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, Failure> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots(ca_pem)?);
    let config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.certificates()?, identity.key()?).map_err(failed)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Whether the authority has issued this client certificate and it is valid now; else why not.
pub fn verify_client(ca_pem: &str, identity: &Identity) -> Result<(), Failure> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider());
    let verifier = verifier.build().map_err(failed)?;
    let chain = identity.certificates()?;
    let (own, others) = chain.split_first().ok_or_else(|| failed("there is no certificate"))?;
    let verified = verifier.verify_client_cert(own, others, UnixTime::now());
    verified.map(drop).map_err(|error| {
        Failure::new("KE-PKI-007", "the certificate is not valid")
            .because(error)
            .fix("check the clock; join again where another authority has issued it")
    })
}

/// A client that trusts any server: only to fetch the authority's certificate, which is then compared with a hash.
pub fn unverified_client_config() -> Result<Arc<ClientConfig>, Failure> {
    trusting(Anyone { provider: provider(), proves: true })
}

/// A client for which a server need not even prove that it holds the certificate's key, which may be of a kind that is
/// not checked any more: only to see whether it answers, as a probe of a container does. What it says is not believed.
pub fn careless_client_config() -> Result<Arc<ClientConfig>, Failure> {
    trusting(Anyone { provider: provider(), proves: false })
}

fn trusting(anyone: Anyone) -> Result<Arc<ClientConfig>, Failure> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anyone))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
    /// Whether the server has to hold the key of the certificate that it shows.
    proves: bool,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.proves {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.proves {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pki::Authority;
    use rustls::{ClientConnection, ServerConnection};

    /// A handshake in memory; the result is the server's certificate.
    pub fn shake(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        name: &'static str,
    ) -> Result<Vec<u8>, rustls::Error> {
        let mut client = ClientConnection::new(client, ServerName::try_from(name).unwrap())?;
        let mut server = ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.peer_certificates().unwrap()[0].to_vec())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn servers_are_known_by_the_names_in_their_certificate() {
        let authority = Authority::generate("KubeEdge").unwrap();
        // A cloudcore without configuration puts an empty DNS name into its certificate.
        let identity = authority.issue_server("KubeEdge", &names(&["10.0.0.1", "", "cloud.lan"]), 1).unwrap();
        let server = server_config(&identity, Clients::None).unwrap();
        let client = client_config(&authority.cert_pem(), None).unwrap();
        for (name, known) in
            [("10.0.0.1", true), ("cloud.lan", true), ("10.0.0.2", false), ("other.lan", false)]
        {
            assert_eq!(shake(client.clone(), server.clone(), name).is_ok(), known, "{name}");
        }
        let stranger = client_config(&Authority::generate("KubeEdge").unwrap().cert_pem(), None).unwrap();
        assert!(shake(stranger, server.clone(), "10.0.0.1").is_err());
        assert!(shake(unverified_client_config().unwrap(), server, "other.lan").is_ok());
    }

    #[test]
    fn a_server_is_reached_whose_certificate_nobody_can_read() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let identity = authority.issue_server("KubeEdge", &names(&["cloud.lan"]), 1).unwrap();
        let key = certified(&identity).unwrap().key.clone();
        let unreadable = CertifiedKey::new(vec![CertificateDer::from(vec![1, 2, 3])], key);
        let server = server(Arc::new(Fixed(Arc::new(unreadable))), Clients::None).unwrap();
        assert!(shake(unverified_client_config().unwrap(), server.clone(), "cloud.lan").is_err());
        assert!(shake(careless_client_config().unwrap(), server, "cloud.lan").is_ok());
    }

    #[test]
    fn client_certificates_are_asked_for_as_configured() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let ca = authority.cert_pem();
        let identity = authority.issue_server("KubeEdge", &names(&["10.0.0.1"]), 1).unwrap();
        let own = authority.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
        let strange =
            Authority::generate("KubeEdge").unwrap().issue_client("system:node:n1", &[], 1).unwrap();
        let shown = |clients: Clients<'_>, shown: Option<&Identity>| {
            let server = server_config(&identity, clients).unwrap();
            shake(client_config(&ca, shown).unwrap(), server, "10.0.0.1").is_ok()
        };
        assert!(shown(Clients::Required(&ca), Some(&own)));
        assert!(!shown(Clients::Required(&ca), None));
        assert!(!shown(Clients::Required(&ca), Some(&strange)));
        assert!(shown(Clients::Optional(&ca), None));
        assert!(!shown(Clients::Optional(&ca), Some(&strange)));
    }

    #[test]
    fn a_client_certificate_is_verified_without_a_handshake() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let own = authority.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
        assert_eq!(verify_client(&authority.cert_pem(), &own), Ok(()));
        let strange = Authority::generate("KubeEdge").unwrap();
        let failure = verify_client(&strange.cert_pem(), &own).unwrap_err();
        assert_eq!(failure.code, "KE-PKI-007");
        failure.is_as_committed();
        assert!(!failure.why.is_empty() && failure.fix.contains("join again"), "{failure:?}");
        let nothing = verify_client("", &own).unwrap_err();
        assert_eq!(nothing.code, "KE-PKI-007");
        nothing.is_as_committed();
        assert_eq!(nothing.why, "the authority's certificate is missing");
        assert!(nothing.fix.contains("authority"), "{nothing:?}");
    }

    #[test]
    fn replaced_files_are_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.crt");
        let mut files = WatchedFiles::new([path.clone()]);
        assert!(!files.have_changed());
        std::fs::write(&path, "one").unwrap();
        assert!(files.have_changed() && !files.have_changed());
        std::fs::write(&path, "three").unwrap();
        assert!(files.have_changed() && !files.have_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(files.have_changed());
    }
}
