//! `kedge cert list`: every certificate that was found, one line each. A certificate that ends soon is a warning, one that
//! ends within days is a failure, so that a timer can act on the exit status.

use super::Place;
use super::life::Verdict;
use super::sources::Shown;
use crate::base::{Exit, Failure, Output, Term};
use crate::cmd::edge_store::table;
use serde_json::json;

pub(super) fn run(place: &Place, output: Output, term: &Term) -> Result<Exit, Failure> {
    let found = place.find()?;
    match output {
        Output::Text => {
            let head = ["ROLE", "CERTIFICATE", "SUBJECT", "NAMES", "DAYS LEFT", "STATE", "FINGERPRINT"];
            term.data(&table(&head, found.certificates.iter().map(cells)));
        }
        form => {
            let list =
                json!({"apiVersion": "kedge.io/v1", "kind": "CertificateList", "items": found.certificates});
            term.value(&list, form)?;
        }
    }
    for trouble in &found.troubles {
        term.failure(trouble);
    }
    for shown in found.certificates.iter().filter(|shown| shown.state != Verdict::Fine) {
        term.say(&advice(shown));
    }
    if found.certificates.iter().any(|shown| shown.state.is_bad()) {
        return Ok(Exit::Failed);
    }
    Ok(found.troubles.first().map_or(Exit::Done, |trouble| trouble.exit))
}

fn cells(shown: &Shown) -> Vec<String> {
    let names = if shown.names.is_empty() { "-".to_owned() } else { shown.names.join(",") };
    vec![
        shown.role.to_owned(),
        shown.name.clone(),
        shown.subject.clone(),
        names,
        shown.days_left.to_string(),
        shown.state.word().to_owned(),
        shown.fingerprint.clone(),
    ]
}

/// What to do about a certificate that ends.
fn advice(shown: &Shown) -> String {
    let fix = match (shown.role, shown.name.as_str(), shown.state) {
        ("edge", "node", Verdict::Expired) => "join again with a token of `kedge token create`",
        ("edge", "node" | "stream", _) => "`kedge cert renew` gets the next one now",
        ("cloud", "server", _) => "restart the cloud, which issues the next one",
        _ => "replace it before it ends",
    };
    let when = if shown.state == Verdict::Expired { "ended" } else { "ends" };
    format!("{}: {} of {} {when} {}: {fix}", shown.state.word(), shown.place, shown.subject, shown.not_after)
}
