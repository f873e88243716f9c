//! What the operator hands in as files: the authority (`tlsCAFile`, `tlsCAKeyFile`) and the server's certificate
//! (`tlsCertFile`, `tlsPrivateKeyFile`). Blocks; `trust` calls it off the runtime. It writes nothing.

use crate::base::{Exit, Failure, read_limited};
use crate::config::cloud::HubConfig;
use crate::pki::{Authority, Identity, certificates_of, not_text, serves_hosts};
use std::path::Path;

const FILE_LIMIT: u64 = 256 << 10;

/// An operator's authority.
pub(super) struct Given {
    pub authority: Authority,
    /// In DER: the authority's certificate and, behind it in the file, former ones whose nodes are still accepted.
    pub accepted: Vec<Vec<u8>>,
}

/// What stands in the authority's two files.
pub(super) enum AuthorityFiles {
    Absent,
    /// Only a certificate, as an edge on this machine has it in the same place.
    CertificateOnly(Vec<u8>),
    Given(Box<Given>),
}

fn lonely(there: &Path, missing: &Path) -> Failure {
    Failure::new("KE-CLOUD-022", format!("{} is there without {}", there.display(), missing.display()))
        .because("a certificate is of use only together with its key")
        .fix("put both files there, or name other places in cloudcore.yaml")
        .exit(Exit::Configuration)
}

/// What a lone certificate means when it is not the authority that the cluster has.
pub(super) fn without_key(hub: &HubConfig) -> Failure {
    lonely(&hub.ca_file, &hub.ca_key_file)
}

fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read_limited(path, FILE_LIMIT)?).map_err(|_| not_text(path))
}

/// Reads the operator's authority.
pub(super) fn authority(hub: &HubConfig) -> Result<AuthorityFiles, Failure> {
    let (cert_file, key_file) = (&hub.ca_file, &hub.ca_key_file);
    let about = |failure: Failure| {
        let (what, why) = (failure.what.clone(), failure.why.clone());
        let why = if why.is_empty() { what } else { format!("{what}: {why}") };
        Failure::new(failure.code, format!("cannot use {} with {}", cert_file.display(), key_file.display()))
            .because(why)
            .fix("put a certificate and its EC P-256 or RSA key there, both as PEM")
            .exit(Exit::Configuration)
    };
    match (cert_file.exists(), key_file.exists()) {
        (false, false) => Ok(AuthorityFiles::Absent),
        (false, true) => Err(lonely(key_file, cert_file)),
        (true, with_key) => {
            let cert = text(cert_file)?;
            let accepted = certificates_of(&cert).map_err(about)?;
            if !with_key {
                return Ok(AuthorityFiles::CertificateOnly(accepted.into_iter().next().unwrap_or_default()));
            }
            let authority = Authority::from_pem(&cert, &text(key_file)?).map_err(about)?;
            Ok(AuthorityFiles::Given(Box::new(Given { authority, accepted })))
        }
    }
}

/// Reads the operator's server certificate.
pub(super) fn server(hub: &HubConfig) -> Result<Option<Identity>, Failure> {
    let (cert, key) = (&hub.cert_file, &hub.key_file);
    match (cert.exists(), key.exists()) {
        (false, false) => return Ok(None),
        (true, false) => return Err(lonely(cert, key)),
        (false, true) => return Err(lonely(key, cert)),
        (true, true) => {}
    }
    let identity = Identity::load(cert, key)?;
    // An edge on this machine keeps its own certificate in the same place.
    Ok(serves_hosts(&identity).then_some(identity))
}
