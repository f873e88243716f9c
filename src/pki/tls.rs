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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const CHECK_EVERY: Duration = Duration::from_secs(1);

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

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, Failure> {
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

/// Like [`server_config`], with a certificate that is read again when its file changes.
pub fn reloading_server_config(
    cert: &Path,
    key: &Path,
    clients: Clients<'_>,
) -> Result<Arc<ServerConfig>, Failure> {
    let current = certified(&Identity::load(cert, key)?)?;
    let held = Held { current, changed: changed(cert), checked: Instant::now() };
    server(Arc::new(Watched { cert: cert.to_owned(), key: key.to_owned(), held: Mutex::new(held) }), clients)
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|facts| facts.modified()).ok()
}

#[derive(Debug)]
struct Held {
    current: Arc<CertifiedKey>,
    changed: Option<SystemTime>,
    checked: Instant,
}

#[derive(Debug)]
struct Watched {
    cert: PathBuf,
    key: PathBuf,
    held: Mutex<Held>,
}

impl ResolvesServerCert for Watched {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.checked.elapsed() >= CHECK_EVERY {
            held.checked = Instant::now();
            let at = changed(&self.cert);
            if at != held.changed {
                // Certificate and key are replaced one after the other: until both fit, the old pair stays.
                match Identity::load(&self.cert, &self.key).and_then(|identity| certified(&identity)) {
                    Ok(new) => {
                        held.current = new;
                        held.changed = at;
                    }
                    Err(failure) => {
                        tracing::warn!(code = failure.code, error = %failure, "the new certificate cannot be used");
                    }
                }
            }
        }
        Some(held.current.clone())
    }
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

/// A client that trusts any server: only to fetch the authority's certificate, which is then compared with a hash.
pub fn unverified_client_config() -> Result<Arc<ClientConfig>, Failure> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider())))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

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
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;
    use rustls::{ClientConnection, ServerConnection};

    /// A handshake in memory; the result is the server's certificate.
    fn shake(
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
    fn a_replaced_certificate_is_shown_without_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("a.crt"), dir.path().join("a.key"));
        let authority = Authority::generate("KubeEdge").unwrap();
        // A new client each time: a resumed session keeps the certificate that it began with.
        let client = || client_config(&authority.cert_pem(), None).unwrap();
        let put = |age: u64| {
            let identity = authority.issue_server("KubeEdge", &names(&["10.0.0.1"]), 1).unwrap();
            std::fs::write(&key, &identity.key_pem).unwrap();
            std::fs::write(&cert, &identity.cert_pem).unwrap();
            let at = SystemTime::now() - Duration::from_secs(age);
            std::fs::File::open(&cert).unwrap().set_modified(at).unwrap();
            identity.certificates().unwrap()[0].to_vec()
        };
        let first = put(10);
        let server = reloading_server_config(&cert, &key, Clients::None).unwrap();
        assert_eq!(shake(client(), server.clone(), "10.0.0.1").unwrap(), first);
        let second = put(0);
        std::thread::sleep(CHECK_EVERY);
        assert_eq!(shake(client(), server.clone(), "10.0.0.1").unwrap(), second);
        std::fs::write(&cert, "damaged").unwrap();
        std::thread::sleep(CHECK_EVERY);
        assert_eq!(shake(client(), server, "10.0.0.1").unwrap(), second);
    }
}
