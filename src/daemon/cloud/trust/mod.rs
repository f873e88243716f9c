//! The cloud's authority, its server certificate and KubeEdge's join token in Secrets of namespace `kubeedge`
//! (protocol.md §2.2): files first, then Secrets, then new ones. Of several replicas one makes what is missing and the
//! others take it; there is never a second authority. Keys and tokens never reach a log line.
//!
//! `establish` at start and again whenever `Keeper` sees files or Secrets change -> hub, stream, tokens by a watch

mod files;
mod keeper;
mod kept;
mod secrets;

pub(super) use keeper::Keeper;
pub use kept::{KeptCertificate, kept_certificates};
pub use secrets::NAMESPACE;
pub(super) use secrets::{bytes, secret, write};

use super::hub::Trust;
use super::kubernetes::Kube;
use crate::base::{Exit, Failure, aside, now};
use crate::config::cloud::HubConfig;
use crate::model::Status;
use crate::pki::{Authority, Identity, Token, certificates_of, facts_of, names_of, pem_certificate};
use files::{AuthorityFiles, Given};
use secrets::{ensure_namespace, failed};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub const TOKEN_SECRET: &str = "tokensecret";
pub const TOKEN_KEY: &str = "tokendata";
pub const CA_SECRET: &str = "casecret";
pub const CA_CERT: &str = "cadata";
const CA_KEY: &str = "cakeydata";
/// PEM of certificates by which nodes of former authorities trust the present one; kedge's own key, which KubeEdge passes over.
const CA_LINKS: &str = "kedgelinks";
/// Former authorities that are kept in mind.
const LINKS: usize = 4;
pub const SERVER_SECRET: &str = "cloudcoresecret";
pub const SERVER_CERT: &str = "cloudcoredata";
const SERVER_KEY: &str = "cloudcorekeydata";
const SERVER_DAYS: u32 = 100 * 364;
/// Names that a server certificate may gather from replicas.
const NAMES: usize = 64;
/// Writes that lost against another replica before it is an error.
const CONFLICTS: usize = 10;

/// Finds or makes all of it. `current` is what this daemon trusts already: a Secret that has vanished gets its authority
/// back instead of a new one.
pub(super) async fn establish(
    kube: &Kube,
    hub: &HubConfig,
    current: Option<&Trust>,
) -> Result<Trust, Failure> {
    ensure_namespace(kube).await?;
    let (authority, accepted, links) = authority(kube, hub, current).await?;
    let mut identity = server(kube, hub, &authority).await?;
    // Shown behind the server's certificate: a node that knows a former authority only finds its way by it.
    identity.cert_pem += &links;
    let accepted_pem = accepted.iter().map(|der| pem_certificate(der)).collect();
    Ok(Trust { authority, accepted_pem, identity })
}

/// The authority that nodes will trust, before any cloud has run: for the installation.
pub(super) async fn ensure_authority(kube: &Kube, hub: &HubConfig) -> Result<Arc<Authority>, Failure> {
    ensure_namespace(kube).await?;
    Ok(authority(kube, hub, None).await?.0)
}

/// Host names and addresses in the server's certificate, for commands.
pub(super) async fn server_names(kube: &Kube) -> Result<Vec<String>, Status> {
    let found = secret(kube, SERVER_SECRET).await?;
    let der = found.as_ref().and_then(|secret| bytes(secret, SERVER_CERT)).unwrap_or_default();
    Ok(names_of(&der).into_iter().filter(|name| name != "localhost").collect())
}

/// The authority as the Secret holds it, for commands.
pub(super) async fn stored_authority(kube: &Kube) -> Result<Option<Authority>, Failure> {
    let found = secret(kube, CA_SECRET).await.map_err(|status| failed("the authority", &status))?;
    found.as_ref().map(authority_of).transpose()
}

fn authority_of(secret: &Value) -> Result<Authority, Failure> {
    let unusable = |why: &str| {
        Failure::new("KE-CLOUD-023", format!("the authority in Secret {NAMESPACE}/{CA_SECRET} cannot be used"))
            .because(why)
            .fix("put the Secret back from a copy: nodes trust this authority only; without one, delete it and let every node join again")
    };
    let (Some(cert), Some(key)) = (bytes(secret, CA_CERT), bytes(secret, CA_KEY)) else {
        return Err(unusable("cadata or cakeydata is missing"));
    };
    Authority::from_der(&cert, &key)
        .map_err(|failure| unusable(&format!("{}: {}", failure.what, failure.why)))
}

/// The authority that signs, all that are accepted, in DER, and the links from former ones, in PEM.
type Authorities = (Arc<Authority>, Vec<Vec<u8>>, String);

/// The links that the Secret holds; what cannot be read is left out.
fn links_of(secret: Option<&Value>) -> String {
    let held =
        secret.and_then(|secret| bytes(secret, CA_LINKS)).and_then(|bytes| String::from_utf8(bytes).ok());
    held.filter(|text| certificates_of(text).is_ok()).unwrap_or_default()
}

/// The links after a change of the authority: the newest first, as it is what most nodes need.
fn links_after(secret: Option<&Value>, successor: &Authority) -> Result<String, Failure> {
    let Some(former) = secret.and_then(|secret| authority_of(secret).ok()) else { return Ok(String::new()) };
    let newest = pem_certificate(&former.vouch_for(successor)?);
    let older = certificates_of(&links_of(secret)).unwrap_or_default();
    Ok(older.iter().take(LINKS - 1).fold(newest, |all, link| all + &pem_certificate(link)))
}

async fn authority(kube: &Kube, hub: &HubConfig, current: Option<&Trust>) -> Result<Authorities, Failure> {
    let wanted = hub.clone();
    let files = blocking(move || files::authority(&wanted)).await?;
    for _ in 0..CONFLICTS {
        let found = secret(kube, CA_SECRET).await.map_err(|status| failed("the authority", &status))?;
        let stored = found.as_ref().map(authority_of).transpose();
        let choice = match stored {
            Ok(stored) => choose(&files, stored, hub)?,
            // An operator's authority heals a Secret that nobody can use.
            Err(failure) => match &files {
                AuthorityFiles::Given(given) => Choice::Replace(given),
                AuthorityFiles::Absent | AuthorityFiles::CertificateOnly(_) => return Err(failure),
            },
        };
        let (chosen, accepted, links) = match choice {
            Choice::Stored(stored) => {
                let accepted = vec![stored.cert_der().to_vec()];
                return Ok((stored, accepted, links_of(found.as_ref())));
            }
            Choice::Given(given) => return again(given, links_of(found.as_ref())),
            Choice::Replace(given) => again(given, links_after(found.as_ref(), &given.authority)?)?,
            Choice::New => {
                let kept = current.map(|trust| trust.authority.clone());
                let new = kept.map_or_else(|| Authority::generate("KubeEdge").map(Arc::new), Ok)?;
                let accepted = vec![new.cert_der().to_vec()];
                (new, accepted, String::new())
            }
        };
        let mut data = vec![(CA_CERT, chosen.cert_der().to_vec()), (CA_KEY, chosen.key_der().to_vec())];
        if !links.is_empty() {
            data.push((CA_LINKS, links.clone().into_bytes()));
        }
        let written = write(kube, CA_SECRET, found, &data).await;
        if written.map_err(|status| failed("the authority", &status))? {
            return Ok((chosen, accepted, links));
        }
        // Another replica was faster: nodes will trust what it made.
    }
    Err(contended("the authority"))
}

fn again(given: &Given, links: String) -> Result<Authorities, Failure> {
    let authority = Authority::from_der(given.authority.cert_der(), given.authority.key_der())?;
    Ok((Arc::new(authority), given.accepted.clone(), links))
}

fn contended(what: &str) -> Failure {
    Failure::new("KE-CLOUD-025", format!("{what} in namespace {NAMESPACE} changes all the time"))
        .because("several clouds write it and do not agree")
        .fix("give all replicas the same cloudcore.yaml and the same files")
}

enum Choice<'a> {
    Stored(Arc<Authority>),
    Given(&'a Given),
    /// The operator's takes the Secret's place.
    Replace(&'a Given),
    New,
}

/// Which authority holds. KubeEdge lets files overwrite the Secret without a word, and every node is locked out; here
/// the operator has to show that he means it, by naming the former authority behind the new one.
fn choose<'a>(
    files: &'a AuthorityFiles,
    stored: Option<Authority>,
    hub: &HubConfig,
) -> Result<Choice<'a>, Failure> {
    match (files, stored) {
        (AuthorityFiles::Absent, Some(stored)) => Ok(Choice::Stored(Arc::new(stored))),
        (AuthorityFiles::Absent, None) => Ok(Choice::New),
        (AuthorityFiles::CertificateOnly(cert), Some(stored)) if cert == stored.cert_der() => {
            Ok(Choice::Stored(Arc::new(stored)))
        }
        (AuthorityFiles::CertificateOnly(_), _) => Err(files::without_key(hub)),
        (AuthorityFiles::Given(given), None) => Ok(Choice::Replace(given)),
        (AuthorityFiles::Given(given), Some(stored)) => {
            if given.authority.cert_der() == stored.cert_der() {
                return Ok(Choice::Given(given));
            }
            if given.accepted.iter().any(|cert| cert == stored.cert_der()) {
                tracing::warn!(
                    "the authority in the Secret is replaced by the one in the files; nodes of the former one are accepted, and trust the new one by the former one's signature"
                );
                return Ok(Choice::Replace(given));
            }
            Err(Failure::new("KE-CLOUD-024", "the authority in the files is not the one that nodes trust")
                .because(format!(
                    "{} is {}, the Secret {NAMESPACE}/{CA_SECRET} holds {}",
                    hub.ca_file.display(),
                    given.authority.hash(),
                    stored.hash()
                ))
                .fix("remove the files to keep the Secret's; to change the authority, append the Secret's certificate to the file: nodes of the former one then come back as they are")
                .exit(Exit::Configuration))
        }
    }
}

async fn server(kube: &Kube, hub: &HubConfig, authority: &Authority) -> Result<Identity, Failure> {
    let wanted = hub.clone();
    if let Some(identity) = blocking(move || files::server(&wanted)).await? {
        return Ok(identity);
    }
    let refused = |status: Status| failed("the server certificate", &status);
    let required = required_names(hub);
    for _ in 0..CONFLICTS {
        let found = secret(kube, SERVER_SECRET).await.map_err(refused)?;
        let held = found.as_ref().and_then(|secret| Held::of(secret, authority));
        if let Some(held) = &held
            && required.iter().all(|name| held.names.contains(name))
            && !held.is_due()
        {
            return Ok(held.identity.clone());
        }
        let names = names_to_issue(required.clone(), held.as_ref());
        let identity = authority.issue_server("KubeEdge", &names, SERVER_DAYS)?;
        let (cert, key) = identity.ders()?;
        let data = [(SERVER_CERT, cert), (SERVER_KEY, key)];
        if write(kube, SERVER_SECRET, found, &data).await.map_err(refused)? {
            return Ok(identity);
        }
    }
    Err(contended("the server certificate"))
}

/// The Secret's server certificate, when the authority has signed it.
struct Held {
    identity: Identity,
    names: Vec<String>,
    from: i64,
    until: i64,
}

impl Held {
    fn of(secret: &Value, authority: &Authority) -> Option<Held> {
        let (cert, key) = (bytes(secret, SERVER_CERT)?, bytes(secret, SERVER_KEY)?);
        let identity = Identity::from_der(&cert, &key).ok().filter(Identity::is_consistent)?;
        let facts = facts_of(&cert).filter(|_| is_signed_by(&cert, authority))?;
        Some(Held { identity, names: names_of(&cert), from: facts.not_before, until: facts.not_after })
    }

    /// Whether two thirds of its life are over.
    fn is_due(&self) -> bool {
        now().as_second() >= renewal(self.from, self.until)
    }
}

/// When a certificate that is valid between these instants should have been replaced.
fn renewal(from: i64, until: i64) -> i64 {
    from.saturating_add(until.saturating_sub(from).max(0) / 3 * 2)
}

/// When the server certificate has to be replaced, in seconds since the epoch.
fn due(identity: &Identity) -> Option<i64> {
    identity.facts().map(|facts| renewal(facts.not_before, facts.not_after))
}

/// What nodes are told to reach this replica by.
fn required_names(hub: &HubConfig) -> Vec<String> {
    hub.advertise.iter().chain(&hub.dns_names).cloned().collect()
}

/// Replicas share one certificate, so a new one keeps the names of the others. Loopback is in it, so that one machine
/// needs no configuration.
fn names_to_issue(mut names: Vec<String>, held: Option<&Held>) -> Vec<String> {
    let usual = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    for name in usual.iter().chain(held.iter().flat_map(|held| &held.names)) {
        if names.len() < NAMES && !name.is_empty() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn is_signed_by(cert: &[u8], authority: &Authority) -> bool {
    let parse = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate);
    match (parse(cert), parse(authority.cert_der())) {
        (Some(cert), Some(ca)) => cert.verify_signature(Some(ca.public_key())).is_ok(),
        _ => false,
    }
}

/// Writes a new KubeEdge join token, valid for twice the time until the next.
pub(super) async fn refresh_token(kube: &Kube, authority: &Authority, every: Duration) -> Result<(), Status> {
    let token = Token::create(authority, every.saturating_mul(2));
    let data = [(TOKEN_KEY, token.into_bytes())];
    for _ in 0..CONFLICTS {
        let found = secret(kube, TOKEN_SECRET).await?;
        if write(kube, TOKEN_SECRET, found, &data).await? {
            return Ok(());
        }
    }
    Err(Status::failure(409, "Conflict", "the join token is written by others all the time"))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    aside("read and write files", work).await?
}

#[cfg(test)]
mod tests;
