//! Who this node is towards the cloud: its certificate, the key that goes with it, the authority, the join token.
//! What a handshake shows stands in `link`.

use super::place::{Papers, Place, papers};
use crate::base::{now, rfc3339};
use crate::config::edge::EdgeConfig;
use crate::host::check::{Check, Finding, Group};
use crate::pki::{Facts, Identity, Token, verify_client};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

const DAY: i64 = 86_400;
const SOON: i64 = 30;
const VERY_SOON: i64 = 7;
const NO_CONFIG: &str = "because of KE-ETC-001";

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let with = |code: &'static str, name: &'static str, judge: fn(&EdgeConfig, &Papers) -> Vec<Finding>| {
        let place = place.clone();
        move || match &place.edge {
            Some(config) => judge(config, &papers(config)),
            None => vec![Finding::skipped(code, name, NO_CONFIG)],
        }
    };
    let dup = place.clone();
    vec![
        Check::blocking(
            "KE-CERT-020",
            Group::Identity,
            "node certificate",
            with("KE-CERT-020", "node certificate", certificate),
        ),
        Check::blocking(
            "KE-CERT-021",
            Group::Identity,
            "authority",
            with("KE-CERT-021", "authority", authority),
        ),
        Check::blocking(
            "KE-CERT-022",
            Group::Identity,
            "private key",
            with("KE-CERT-022", "private key", key),
        )
        .root(),
        Check::blocking(
            "KE-TOKEN-020",
            Group::Identity,
            "join token",
            with("KE-TOKEN-020", "join token", token),
        ),
        Check::blocking("KE-DUP-001", Group::Identity, "node name", move || vec![name(&dup)]),
    ]
}

fn certificate(config: &EdgeConfig, papers: &Papers) -> Vec<Finding> {
    let (code, title) = ("KE-CERT-020", "node certificate");
    let cloud = &config.hub.http_server;
    let finding = match &papers.identity {
        Ok(identity) => match identity.facts() {
            Some(facts) => judge_certificate(&facts, identity, config.node.as_str(), now().as_second()),
            None => Finding::failed(code, title, "cannot be read")
                .because("the file holds no certificate")
                .fix("kedge cert renew"),
        },
        Err(_) if !config.hub.cert_file.exists() && !config.hub.token.is_empty() => {
            Finding::warning(code, title, "none yet")
                .because(format!("the daemon enrols at {cloud} with the token that it has"))
                .fix("kedge edge run")
        }
        Err(failure) => Finding::failed(code, title, failure.what.clone())
            .because(failure.why.clone())
            .fix("kedge join --token … (`kedge token create` on the cloud makes one)"),
    };
    vec![finding]
}

fn judge_certificate(facts: &Facts, identity: &Identity, node: &str, now: i64) -> Finding {
    let (code, title) = ("KE-CERT-020", "node certificate");
    let name = &facts.peer.common_name;
    let days = (facts.not_after - now).div_euclid(DAY);
    let seen = format!("{name}, {days} days left");
    if !identity.is_consistent() {
        return Finding::failed(code, title, format!("{name}, and a key of another certificate"))
            .because("no TLS handshake succeeds with a key that does not belong to the certificate")
            .fix("kedge reset edge, then kedge join --token …");
    }
    if facts.not_before > now {
        let from = jiff::Timestamp::from_second(facts.not_before).map(rfc3339).unwrap_or_default();
        return Finding::failed(code, title, format!("{name}, valid from {from}"))
            .because("this machine's clock stands before the certificate's life")
            .fix(crate::host::remedy::set_clock());
    }
    if let Some(named) = name.strip_prefix("system:node:").filter(|named| *named != node && node != "unknown")
    {
        return Finding::failed(code, title, seen)
            .because(format!("the certificate is for the node {named}, the configuration names {node}"))
            .fix(format!("kedge config set modules.edged.hostnameOverride={named}"));
    }
    let renew = "kedge cert renew";
    match days {
        ..0 => Finding::failed(code, title, format!("{name}, expired {} days ago", -days))
            .because("the cloud refuses the connection; pods run on, and nothing new arrives")
            .fix(renew),
        0..VERY_SOON => Finding::failed(code, title, seen)
            .because("it should have been renewed by itself; the cloud was out of reach or has refused it")
            .fix(renew),
        VERY_SOON..SOON => Finding::warning(code, title, seen)
            .because("it is renewed by itself while the cloud can be reached")
            .fix(renew),
        _ => Finding::fine(code, title, seen),
    }
}

fn authority(config: &EdgeConfig, papers: &Papers) -> Vec<Finding> {
    let (code, title) = ("KE-CERT-021", "authority");
    let shown = config.hub.ca_file.display();
    let finding = match (&papers.ca_pem, &papers.identity) {
        (Err(failure), Ok(_)) => Finding::failed(code, title, failure.what.clone())
            .because("without the authority's certificate no cloud is trusted")
            .fix(format!(
                "curl -k {}/ca.crt | openssl x509 -inform DER -out {shown}",
                config.hub.http_server
            )),
        (Err(_), Err(_)) => Finding::skipped(code, title, "not enrolled yet"),
        (Ok(_), Err(_)) => Finding::fine(code, title, format!("{shown}")),
        (Ok(ca), Ok(identity)) => match verify_client(ca, identity) {
            Ok(()) => Finding::fine(code, title, "has issued the node's certificate"),
            Err(failure) if failure.why.contains("Expired") || failure.why.contains("NotValidYet") => {
                Finding::fine(code, title, format!("{shown}; the node's certificate is out of its time"))
            }
            Err(failure) => Finding::failed(code, title, "has not issued the node's certificate")
                .because(format!(
                    "{}: the cloud was made anew, or files of two clouds were mixed",
                    failure.why
                ))
                .fix("kedge reset edge, then kedge join --token …"),
        },
    };
    vec![finding]
}

fn key(config: &EdgeConfig, _: &Papers) -> Vec<Finding> {
    let path = &config.hub.key_file;
    let mode = std::fs::metadata(path).ok().map(|file| file.permissions().mode() & 0o7777);
    vec![judge_key(path, mode)]
}

fn judge_key(path: &Path, mode: Option<u32>) -> Finding {
    let (code, title) = ("KE-CERT-022", "private key");
    match mode {
        None => Finding::skipped(code, title, "there is none yet"),
        Some(mode) if mode & 0o077 != 0 => Finding::warning(code, title, format!("mode {mode:04o}"))
            .because("who can read the key can be this node")
            .fix(format!("chmod 600 {}", path.display()))
            .fixable(),
        Some(mode) => Finding::fine(code, title, format!("mode {mode:04o}")),
    }
}

fn token(config: &EdgeConfig, papers: &Papers) -> Vec<Finding> {
    let text = config.hub.token.reveal();
    vec![judge_token(text, papers, now().as_second())]
}

/// The token itself is never shown.
fn judge_token(text: &str, papers: &Papers, now: i64) -> Finding {
    let (code, title) = ("KE-TOKEN-020", "join token");
    if papers.identity.is_ok() {
        return Finding::fine(code, title, "not needed: the node has its certificate");
    }
    let make = "kedge token create (on the cloud), then kedge join --token …";
    if text.is_empty() {
        return Finding::failed(code, title, "none")
            .because("a node without a certificate needs a token to get one")
            .fix(make);
    }
    let token = match Token::parse(text) {
        Ok(token) => token,
        Err(error) => {
            return Finding::failed(code, title, error.to_string())
                .because("the text is no join token")
                .fix(make);
        }
    };
    let left = token.expires - now;
    if left <= 0 {
        let minutes = -left / 60;
        return Finding::failed(
            code,
            title,
            format!("expired {} h {:02} min ago", minutes / 60, minutes % 60),
        )
        .because("the cloud issues no certificate for it; a wrong clock here looks the same")
        .fix(make);
    }
    let fits = papers
        .ca_pem
        .as_ref()
        .ok()
        .and_then(|pem| crate::pki::certificates_of(pem).ok())
        .and_then(|ders| ders.first().map(|der| token.fits(der)));
    if fits == Some(false) {
        return Finding::failed(code, title, "of another cloud")
            .because("the hash in the token is not that of the authority's certificate here")
            .fix(make);
    }
    Finding::fine(code, title, format!("valid for {} h {:02} min", left / 3600, left % 3600 / 60))
}

/// A name that another machine has is refused by the cloud; the daemon remembers the refusal.
fn name(place: &Place) -> Finding {
    let (code, title) = ("KE-DUP-001", "node name");
    let Some(config) = &place.edge else { return Finding::skipped(code, title, NO_CONFIG) };
    let node = config.node.as_str();
    if place.told("/link/code") == code {
        return Finding::failed(code, title, place.told("/link/error").to_owned())
            .because("two machines under one name would take each other's pods")
            .fix(place.told("/link/fix").to_owned());
    }
    match place.told("/link/link") {
        "up" => Finding::fine(code, title, format!("{node}, which the cloud knows by this machine's key")),
        _ => Finding::fine(code, title, node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Failure;
    use crate::host::check::State;
    use crate::pki::Authority;
    use std::time::Duration;

    fn issued(node: &str, days: u32) -> (Authority, Identity) {
        let authority = Authority::generate("KubeEdge").unwrap();
        let identity =
            authority.issue_client(&format!("system:node:{node}"), &["system:nodes"], days).unwrap();
        (authority, identity)
    }

    fn none() -> Papers {
        Papers {
            identity: Err(Failure::new("KE-FILE-002", "no file")),
            ca_pem: Err(Failure::new("KE-FILE-002", "no file")),
        }
    }

    #[test]
    fn a_certificate_is_judged_by_its_days_and_its_name() {
        let (_, identity) = issued("n1", 100);
        let facts = identity.facts().unwrap();
        let today = now().as_second();
        let at = |days: i64| judge_certificate(&facts, &identity, "n1", today + days * DAY);
        assert_eq!((at(0).state, at(80).state, at(96).state), (State::Fine, State::Warning, State::Failed));
        assert!(
            at(103).seen.contains("expired 3 days ago") || at(103).seen.contains("expired 4 days ago"),
            "{:?}",
            at(103)
        );
        assert_eq!(at(-5000).fix, crate::host::remedy::set_clock());
        let other = judge_certificate(&facts, &identity, "n2", today);
        assert_eq!(other.fix, "kedge config set modules.edged.hostnameOverride=n1");
        let (_, second) = issued("n1", 100);
        let mixed = Identity { key_pem: second.key_pem, ..identity.clone() };
        assert_eq!(judge_certificate(&facts, &mixed, "n1", today).state, State::Failed);
    }

    #[test]
    fn an_authority_that_did_not_issue_the_certificate_is_told() {
        let config = EdgeConfig::from_value(&serde_json::json!({}), "x").unwrap().config;
        let (authority_a, identity) = issued("n1", 100);
        let (authority_b, _) = issued("n1", 100);
        let with = |ca: &Authority| Papers { identity: Ok(identity.clone()), ca_pem: Ok(ca.cert_pem()) };
        assert_eq!(authority(&config, &with(&authority_a))[0].state, State::Fine);
        assert_eq!(authority(&config, &with(&authority_b))[0].state, State::Failed);
        assert_eq!(authority(&config, &none())[0].state, State::Skipped);
        let lost = Papers { identity: Ok(identity), ..none() };
        assert_eq!(authority(&config, &lost)[0].state, State::Failed);
    }

    #[test]
    fn a_key_that_others_can_read_is_fixable() {
        let path = Path::new("/k");
        let open = judge_key(path, Some(0o644));
        assert!(open.state == State::Warning && open.fixable && open.fix == "chmod 600 /k");
        assert_eq!(judge_key(path, Some(0o600)).state, State::Fine);
        assert_eq!(judge_key(path, None).state, State::Skipped);
    }

    #[test]
    fn tokens_are_judged_without_being_shown() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let text = Token::create(&authority, Duration::from_secs(7200));
        let today = now().as_second();
        let fine = judge_token(&text, &none(), today);
        assert!(fine.state == State::Fine && fine.seen.starts_with("valid for "), "{fine:?}");
        let late = judge_token(&text, &none(), today + 7200 + 8000);
        assert_eq!((&*late.code, late.state), ("KE-TOKEN-020", State::Failed));
        assert!(late.seen.starts_with("expired 2 h 1"), "{late:?}");
        let strange = Authority::generate("KubeEdge").unwrap();
        let papers = Papers { ca_pem: Ok(strange.cert_pem()), ..none() };
        assert_eq!(judge_token(&text, &papers, today).seen, "of another cloud");
        assert_eq!(judge_token("", &none(), today).seen, "none");
        assert_eq!(judge_token("abc", &none(), today).state, State::Failed);
    }
}
