//! `kedge cert renew`: asks the cloud for the node's next certificate with the present one and lays it ready. A running
//! daemon sees it there, tries it and puts it in place; without a daemon the command does so itself.

use crate::base::{Exit, Failure, Output, Term, read_limited};
use crate::cmd::edge_place::EdgePlace;
use crate::daemon::{edge, status};
use crate::pki;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The daemon looks every two seconds and then connects.
const ADOPTION_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(
    place: &EdgePlace,
    cloud: Option<String>,
    dry_run: bool,
    output: Output,
    term: &Term,
) -> Result<Exit, Failure> {
    let config = place.load()?;
    let running = config.status_socket.as_deref().and_then(|socket| status::ask(socket).ok());
    let mut wanted = edge::enrolment(&config);
    if let Some(https) = cloud.or_else(|| served_at(running.as_ref())) {
        wanted.https = https;
    } else if place.file().is_none() {
        return Err(Failure::new("KE-CERT-012", "the cloud's address is not known")
            .because("a data directory does not hold it and no daemon runs that could tell it")
            .fix("name the cloud's certificate service with --cloud HOST:PORT")
            .exit(Exit::Usage));
    }
    // An address that is none is told before anything is asked.
    edge::uplink::Counter::at(&wanted.https)?;
    if !config.hub.cert_file.exists() {
        return Err(super::sources::no_certificate(&config));
    }
    let before = fingerprint(&config.hub.cert_file)?;
    let report = |after: Option<&str>| {
        if output == Output::Text {
            return Ok(());
        }
        let report = json!({"apiVersion": "kedge.io/v1", "kind": "CertificateRenewal", "dryRun": dry_run,
            "node": wanted.node, "cloud": wanted.https, "before": before, "after": after});
        term.value(&report, output)
    };
    if dry_run {
        report(None)?;
        term.say(&format!("would ask {} for the next certificate of {}", wanted.https, wanted.node));
        return Ok(Exit::Done);
    }
    pki::install_crypto_provider();
    crate::cmd::block_on(async {
        edge::uplink::request_renewal(&wanted).await?;
        if running.is_some() {
            return adopted(&config.hub.cert_file, &before, ADOPTION_LIMIT).await;
        }
        edge::uplink::adopt_renewal(&wanted).await
    })?;
    let after = fingerprint(&config.hub.cert_file)?;
    report(Some(&after))?;
    term.say(&format!("the certificate of {} is renewed: {before} gave way to {after}", config.node));
    Ok(Exit::Done)
}

/// Where the running daemon finds the cloud's certificate service.
fn served_at(document: Option<&Value>) -> Option<String> {
    let document = document?;
    let edge = document.get("edge").unwrap_or(document);
    edge.pointer("/cloudAddresses/https")?.as_str().map(str::to_owned)
}

/// The fingerprint of the first certificate in a file.
pub(in crate::cmd) fn fingerprint(path: &Path) -> Result<String, Failure> {
    let pem = read_limited(path, 256 << 10)?;
    let certificates = pki::certificates_of(&String::from_utf8_lossy(&pem)).map_err(|failure| {
        Failure::new(failure.code, format!("{} is not this node's certificate", path.display()))
            .because(failure.why)
            .fix("put it back from a copy, or join again with a token of `kedge token create`")
    })?;
    Ok(certificates.first().map(|der| pki::fingerprint(der)).unwrap_or_default())
}

/// Waits until the daemon has put another certificate in the place of the one before.
async fn adopted(file: &Path, before: &str, limit: Duration) -> Result<(), Failure> {
    let changed = async {
        while !fingerprint(file).is_ok_and(|now| now != before) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(limit, changed).await.map_err(|_| {
        Failure::new("KE-CERT-013", "the daemon has not taken the renewed certificate yet")
            .because(format!("{} is still the former one", file.display()))
            .fix("look at the link in `kedge status`; the renewed one is tried at the next connection")
            .exit(Exit::TimedOut)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    #[test]
    fn a_certificate_that_is_none_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.crt");
        std::fs::write(&file, "garbage").unwrap();
        let failure = fingerprint(&file).unwrap_err();
        assert_eq!(failure.code, "KE-PKI-003");
        assert!(failure.what.contains("server.crt") && failure.fix.contains("join again"), "{failure}");
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_its_certificate_is_told_of_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path(), "ca", "x").unwrap();
        let certificate = || authority.issue_client("edge-1", &["nodes"], 1).unwrap().cert_pem;
        let file = dir.path().join("server.crt");
        std::fs::write(&file, certificate()).unwrap();
        let before = fingerprint(&file).unwrap();
        let failure = adopted(&file, &before, Duration::from_millis(250)).await.unwrap_err();
        assert_eq!((failure.code, failure.exit), ("KE-CERT-013", Exit::TimedOut));
        assert!(failure.why.contains("server.crt") && failure.fix.contains("`kedge status`"), "{failure}");
        std::fs::write(&file, certificate()).unwrap();
        adopted(&file, &before, Duration::from_secs(9)).await.unwrap();
    }
}
