//! How a node gets and renews its certificate (protocol.md §2.5): the authority's certificate is fetched unverified and
//! compared with the hash in the token, everything after that is verified. Files appear whole or not at all.

use super::counter::{Counter, FRESH_TOKEN, expired_token};
use crate::base::{Exit, Failure, create_private_dir, now, read_limited, rfc3339, write_atomic};
use crate::model::NodeName;
use crate::pki::{Facts, Identity, Token, certificates_of, client_config, pem_certificate};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

const SIZE: usize = 256 << 10;
/// Authorities that a node trusts at most; more than one only while the cloud changes its own.
const AUTHORITIES: usize = 4;

/// Where the node keeps what proves who it is; KubeEdge's places by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// Where a renewed certificate and its key wait until they have proved good.
    pub fn renewed(&self) -> [PathBuf; 2] {
        [next(&self.cert), next(&self.key)]
    }
}

impl Default for Files {
    fn default() -> Self {
        Files {
            ca: PathBuf::from("/etc/kubeedge/ca/rootCA.crt"),
            cert: PathBuf::from("/etc/kubeedge/certs/server.crt"),
            key: PathBuf::from("/etc/kubeedge/certs/server.key"),
        }
    }
}

/// What enrolment needs to know.
#[derive(Clone, Debug)]
pub struct Enrolment {
    pub node: NodeName,
    /// `https://host:10002` of the cloud.
    pub https: String,
    /// The join token; not needed where a valid certificate is present.
    pub token: Option<String>,
    pub files: Files,
}

/// How a node came by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// A valid one was there.
    Reused,
    Issued,
}

/// Makes sure that the node has a valid certificate: reuses the present one or gets one for the token.
pub async fn enrol(wanted: &Enrolment) -> Result<Enrolled, Failure> {
    let present = load(wanted).await;
    let Err(missing) = present else { return Ok(Enrolled::Reused) };
    let Some(text) = &wanted.token else { return Err(missing) };
    let token = Token::parse(text).map_err(|error| {
        Failure::new("KE-TOKEN-004", "the join token cannot be read")
            .because(error)
            .fix(FRESH_TOKEN)
            .exit(Exit::Configuration)
    })?;
    if token.has_expired() {
        return Err(expired_token(&token));
    }
    let counter = Counter::at(&wanted.https)?;
    let ca_pem = counter.recognise(&counter.look().await?, &token)?;
    let identity = counter.certify(&wanted.node, &token, &ca_pem).await?;
    save(wanted.files.clone(), ca_pem, identity).await?;
    tracing::info!(node = %wanted.node, "the node has a certificate now");
    Ok(Enrolled::Issued)
}

/// Gets the next certificate with the present one; no token is needed. It lies beside the present one until
/// [`promote`] puts it in its place. A new authority of the cloud is trusted from then on, beside the present one.
pub(super) async fn renew(wanted: &Enrolment, present: &Credentials) -> Result<(), Failure> {
    let counter = Counter::at(&wanted.https)?;
    let tls = client_config(&present.ca_pem, Some(&present.identity))?;
    let identity = counter.apply(&wanted.node, tls.clone(), None).await?;
    // The connection is verified, so the cloud's word on its authority counts.
    let ca = match counter.authority(tls).await {
        Ok(ca) => extended(&present.ca_pem, &ca),
        Err(failure) => {
            tracing::debug!(code = failure.code, "the authority could not be looked at");
            None
        }
    };
    let files = wanted.files.clone();
    on_disk(move || {
        if let Some(ca) = ca {
            write_atomic(&files.ca, ca.as_bytes(), 0o600)?;
        }
        write_atomic(&next(&files.key), identity.key_pem.as_bytes(), 0o600)?;
        write_atomic(&next(&files.cert), identity.cert_pem.as_bytes(), 0o600)
    })
    .await
}

/// Gets the next certificate now, however long the present one still lives. A running daemon that finds it beside the
/// present one tries it and puts it in place.
pub async fn request_renewal(wanted: &Enrolment) -> Result<(), Failure> {
    let present = load(wanted).await?;
    renew(wanted, &present).await
}

/// Puts a requested certificate in the place of the present one; only while no daemon runs, which would try it first.
pub async fn adopt_renewal(wanted: &Enrolment) -> Result<(), Failure> {
    match read_next(wanted).await {
        Ok(_) => promote(wanted).await,
        Err(failure) => Err(Failure::new("KE-CERT-007", "the renewed certificate cannot be used")
            .because(failure)
            .fix("try again; see the cloud's log if it stays")),
    }
}

/// The node's papers, as far as they are its own: what an enrolment wrote, or a renewal since. Empty where they are
/// somebody else's. Expired ones count; blocking.
pub fn own_papers(wanted: &Enrolment) -> Vec<PathBuf> {
    let Files { ca, cert, key } = &wanted.files;
    let named = |identity: &Identity| Some(identity.facts()?.peer.common_name);
    let name =
        Identity::load(cert, key).ok().filter(Identity::is_consistent).and_then(|identity| named(&identity));
    match name.as_deref().and_then(|name| name.strip_prefix("system:node:")) {
        Some(name) if name == wanted.node.as_str() => vec![ca.clone(), cert.clone(), key.clone()],
        _ => Vec::new(),
    }
}

/// Whether somebody has laid a renewed certificate ready.
pub(super) async fn lies_ready(wanted: &Enrolment) -> bool {
    next(&wanted.files.cert).exists() && load_next(wanted).await.is_some()
}

/// The trusted authorities with a new one in front; `None` when it is no news or cannot be an authority.
fn extended(ca_pem: &str, der: &[u8]) -> Option<String> {
    let known = certificates_of(ca_pem).ok()?;
    if known.iter().any(|cert| cert == der) || known.len() >= AUTHORITIES {
        return None;
    }
    let new = pem_certificate(der) + ca_pem;
    client_config(&new, None).is_ok().then_some(new)
}

/// A valid certificate and what the node trusts.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub ca_pem: String,
    pub identity: Identity,
    pub facts: Facts,
}

/// The credentials on disk, checked; the failure says why they cannot be used. When they cannot, and a renewed
/// certificate lies ready, that takes their place.
pub(super) async fn load(wanted: &Enrolment) -> Result<Credentials, Failure> {
    let (files, node) = (wanted.files.clone(), wanted.node.clone());
    on_disk(move || {
        read(&files, (&files.cert, &files.key), &node).or_else(|failure| {
            let renewed = read(&files, (&next(&files.cert), &next(&files.key)), &node);
            // A renewal that was cut short has put the certificate in its place but not the key.
            let halfway = || read(&files, (&files.cert, &next(&files.key)), &node);
            let found = renewed.or_else(|_| halfway());
            found.and_then(|found| put_next_in_place(&files).map(|()| found)).map_err(|_| failure)
        })
    })
    .await
}

/// The renewed certificate that waits to be tried; `None` when there is none that can be used.
pub(super) async fn load_next(wanted: &Enrolment) -> Option<Credentials> {
    read_next(wanted).await.ok()
}

async fn read_next(wanted: &Enrolment) -> Result<Credentials, Failure> {
    let (files, node) = (wanted.files.clone(), wanted.node.clone());
    on_disk(move || read(&files, (&next(&files.cert), &next(&files.key)), &node)).await
}

/// Puts the renewed certificate, which has proved good, in the place of the former.
pub(super) async fn promote(wanted: &Enrolment) -> Result<(), Failure> {
    let files = wanted.files.clone();
    on_disk(move || put_next_in_place(&files)).await
}

/// Throws a renewed certificate away that the cloud does not accept.
pub(super) async fn discard(wanted: &Enrolment) {
    let files = wanted.files.clone();
    let removed = on_disk(move || {
        for file in [&files.cert, &files.key] {
            drop(std::fs::remove_file(next(file)));
        }
        Ok(())
    });
    drop(removed.await);
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Failure::new("KE-CERT-007", "the node's certificate cannot be read or written")
            .because(error)
            .fix("try again; if it repeats, send `kedge bugreport` to the developers"))
    })
}

/// Whichever step is the last one before a crash, a pair that fits is found by [`load`].
fn put_next_in_place(files: &Files) -> Result<(), Failure> {
    for file in [&files.cert, &files.key] {
        let from = next(file);
        if from.exists() {
            std::fs::rename(&from, file).map_err(|error| {
                Failure::new("KE-FILE-001", format!("cannot write {}", file.display()))
                    .because(error)
                    .fix("check that its directory can be written by this user")
            })?;
        }
    }
    Ok(())
}

const JOIN: &str =
    "join with a token of the cloud: kedge token create there, then modules.edgeHub.token here";

fn read(files: &Files, (cert, key): (&Path, &Path), node: &NodeName) -> Result<Credentials, Failure> {
    if !cert.exists() || !files.ca.exists() {
        return Err(Failure::new("KE-CERT-008", format!("{node} has no certificate yet"))
            .because(format!("{} or {} is missing", cert.display(), files.ca.display()))
            .fix(JOIN));
    }
    let ca_pem = String::from_utf8_lossy(&read_limited(&files.ca, SIZE as u64)?).into_owned();
    let identity = Identity::load(cert, key)?;
    client_config(&ca_pem, Some(&identity)).map_err(|failure| {
        let why = failure.why.clone();
        failure.because(format!("{}: {why}", cert.display())).fix(JOIN)
    })?;
    let facts = identity
        .facts()
        .ok_or_else(|| Failure::new("KE-CERT-007", format!("cannot read {}", cert.display())))
        .map_err(|failure| failure.because("it is no X.509 certificate").fix(JOIN))?;
    let name = &facts.peer.common_name;
    if name.strip_prefix("system:node:") != Some(node.as_str()) {
        return Err(Failure::new("KE-CERT-009", format!("the certificate is not {node}'s"))
            .because(format!("{} is for {name}", cert.display()))
            .fix("give the node its former name, or remove the certificate and join again"));
    }
    check_time(&facts, cert)?;
    Ok(Credentials { ca_pem, identity, facts })
}

fn check_time(facts: &Facts, cert: &Path) -> Result<(), Failure> {
    let at = now().as_second();
    let said = |seconds| Timestamp::from_second(seconds).map(rfc3339).unwrap_or_default();
    if at >= facts.not_after {
        return Err(Failure::new("KE-CERT-001", "the node's certificate has expired")
            .because(format!("{} was valid until {}", cert.display(), said(facts.not_after)))
            .fix("check the clock, or join again with a fresh token: kedge token create"));
    }
    if at < facts.not_before {
        return Err(Failure::new("KE-CERT-002", "the node's certificate is not valid yet")
            .because(format!("{} is valid from {}", cert.display(), said(facts.not_before)))
            .fix("set the clock of this machine"));
    }
    Ok(())
}

/// Where a certificate or key waits until it has proved good.
fn next(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

async fn save(files: Files, ca_pem: String, identity: Identity) -> Result<(), Failure> {
    on_disk(move || {
        for file in [&files.ca, &files.cert, &files.key] {
            if let Some(parent) = file.parent() {
                create_private_dir(parent)?;
            }
        }
        write_atomic(&files.ca, ca_pem.as_bytes(), 0o600)?;
        // Key and certificate belong together: neither is in its place before both are on disk.
        write_atomic(&next(&files.key), identity.key_pem.as_bytes(), 0o600)?;
        write_atomic(&next(&files.cert), identity.cert_pem.as_bytes(), 0o600)?;
        put_next_in_place(&files)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    fn wanted(dir: &Path) -> Enrolment {
        let file = |name: &str| dir.join(name);
        Enrolment {
            node: NodeName::new("n1").unwrap(),
            https: "127.0.0.1:1".to_owned(),
            token: None,
            files: Files { ca: file("ca.crt"), cert: file("node.crt"), key: file("node.key") },
        }
    }

    async fn put(wanted: &Enrolment, authority: &Authority, name: &str, from: i64, until: i64) {
        let identity = authority.issue_client_between(name, &["system:nodes"], from, until).unwrap();
        save(wanted.files.clone(), authority.cert_pem(), identity).await.unwrap();
    }

    #[tokio::test]
    async fn a_valid_certificate_is_reused() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path());
        let authority = Authority::generate("KubeEdge").unwrap();
        put(&wanted, &authority, "system:node:n1", 0, now().as_second() + 1000).await;
        assert_eq!(enrol(&wanted).await, Ok(Enrolled::Reused));
    }

    #[tokio::test]
    async fn useless_certificates_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path());
        assert_eq!(enrol(&wanted).await.unwrap_err().committed().code, "KE-CERT-008");
        let authority = Authority::generate("KubeEdge").unwrap();
        let at = now().as_second();
        put(&wanted, &authority, "system:node:n1", at - 1000, at - 86_400 + 86_300).await;
        let failure = enrol(&wanted).await.unwrap_err();
        assert_eq!(failure.code, "KE-CERT-001");
        failure.is_as_committed();
        assert!(failure.why.contains("was valid until 20"), "{}", failure.why);
        put(&wanted, &authority, "system:node:n1", at + 1000, at + 2000).await;
        assert_eq!(enrol(&wanted).await.unwrap_err().committed().code, "KE-CERT-002");
        put(&wanted, &authority, "system:node:other", 0, at + 2000).await;
        assert_eq!(enrol(&wanted).await.unwrap_err().committed().code, "KE-CERT-009");
    }

    #[tokio::test]
    async fn papers_are_the_nodes_own_after_a_renewal_and_once_they_have_expired() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path());
        let authority = Authority::generate("KubeEdge").unwrap();
        assert_eq!(own_papers(&wanted), Vec::<PathBuf>::new());
        put(&wanted, &authority, "system:node:n1", 0, 1000).await;
        let Files { ca, cert, key } = wanted.files.clone();
        assert_eq!(own_papers(&wanted), [ca, cert.clone(), key]);
        put(&wanted, &authority, "system:node:other", 0, 1000).await;
        assert_eq!(own_papers(&wanted), Vec::<PathBuf>::new());
        let other = authority.issue_client_between("system:node:n1", &[], 0, 1000).unwrap();
        std::fs::write(cert, other.cert_pem).unwrap();
        assert_eq!(own_papers(&wanted), Vec::<PathBuf>::new(), "a certificate without its key");
    }

    #[tokio::test]
    async fn a_renewal_cut_short_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path());
        let authority = Authority::generate("KubeEdge").unwrap();
        let until = now().as_second() + 1000;
        put(&wanted, &authority, "system:node:n1", 0, until).await;
        let renewed =
            authority.issue_client_between("system:node:n1", &["system:nodes"], 0, until + 1).unwrap();
        std::fs::write(next(&wanted.files.key), &renewed.key_pem).unwrap();
        std::fs::write(&wanted.files.cert, &renewed.cert_pem).unwrap();
        assert_eq!(enrol(&wanted).await, Ok(Enrolled::Reused));
        assert_eq!(std::fs::read_to_string(&wanted.files.key).unwrap(), renewed.key_pem);
    }

    #[tokio::test]
    async fn a_renewed_certificate_waits_and_stands_in_for_one_that_ends() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path());
        let authority = Authority::generate("KubeEdge").unwrap();
        let at = now().as_second();
        put(&wanted, &authority, "system:node:n1", at - 10, at + 1000).await;
        let issue = |until| {
            authority.issue_client_between("system:node:n1", &["system:nodes"], at - 5, until).unwrap()
        };
        let lay = |identity: &Identity| {
            std::fs::write(next(&wanted.files.key), &identity.key_pem).unwrap();
            std::fs::write(next(&wanted.files.cert), &identity.cert_pem).unwrap();
        };
        assert!(load_next(&wanted).await.is_none());
        let renewed = issue(at + 2000);
        lay(&renewed);
        assert_eq!(load(&wanted).await.unwrap().facts.not_after, at + 1000);
        assert_eq!(load_next(&wanted).await.unwrap().identity, renewed);
        discard(&wanted).await;
        assert!(load_next(&wanted).await.is_none());
        // The node was off when its certificate ended, after it had got the next one.
        put(&wanted, &authority, "system:node:n1", at - 1000, at - 1).await;
        lay(&renewed);
        assert_eq!(load(&wanted).await.unwrap().identity, renewed);
        assert!(!next(&wanted.files.key).exists() && !next(&wanted.files.cert).exists());
        assert_eq!(Identity::load(&wanted.files.cert, &wanted.files.key).unwrap(), renewed);
    }

    #[test]
    fn a_new_authority_is_trusted_beside_the_present_one() {
        let (old, new) = (Authority::generate("KubeEdge").unwrap(), Authority::generate("KubeEdge").unwrap());
        assert_eq!(extended(&old.cert_pem(), old.cert_der()), None);
        assert_eq!(extended(&old.cert_pem(), b"nonsense"), None);
        let both = extended(&old.cert_pem(), new.cert_der()).unwrap();
        let known = certificates_of(&both).unwrap();
        assert_eq!(known, [new.cert_der().to_vec(), old.cert_der().to_vec()]);
        assert_eq!(extended(&both, old.cert_der()), None);
    }
}
