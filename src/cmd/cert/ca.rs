//! `kedge cert ca`: the authority that nodes trust, as PEM, and the hash by which a joining node knows it.

use super::Place;
use crate::base::{Exit, Failure, Output, Term};
use crate::pki;
use serde_json::json;

pub(super) fn run(place: &Place, hash: bool, output: Output, term: &Term) -> Result<Exit, Failure> {
    let found = place.find()?;
    // The cloud's word counts before what this machine's node was told once.
    let of = |role: &str| found.certificates.iter().find(|c| c.role == role && c.name == "authority");
    // A cluster that was named is meant, and nothing else.
    if place.kubeconfig.is_some()
        && of("cloud").is_none()
        && let Some(trouble) = found.troubles.last()
    {
        return Err(trouble.clone());
    }
    let authority = of("cloud").or_else(|| of("edge")).ok_or_else(|| {
        Failure::new("KE-CERT-011", "there is no authority here")
            .because("the cloud has not run yet, or this node has not joined")
            .fix("start the cloud with `kedge up` or `kedge init`, or join this node")
            .exit(Exit::Unreachable)
    })?;
    let pem = pki::pem_certificate(&authority.der);
    match output {
        Output::Text if hash => term.data(&authority.fingerprint),
        Output::Text => {
            term.data(pem.trim_end());
            term.say(&format!("hash {} ({})", authority.fingerprint, authority.place));
        }
        form => term.value(
            &json!({"apiVersion": "kedge.io/v1", "kind": "Authority", "subject": authority.subject,
                "daysLeft": authority.days_left, "hash": authority.fingerprint, "pem": pem}),
            form,
        )?,
    }
    Ok(Exit::Done)
}
