//! The cloud's papers: authority, server certificate and join token as the Secrets keep them, and the certificate that the
//! cloud of this machine really shows. Reads and compares; what a Secret holds is never shown.

use super::{CALL, read, unasked};
use crate::base::now;
use crate::daemon::cloud::{
    CA_CERT, CA_SECRET, NAMESPACE, SERVER_CERT, SERVER_SECRET, TOKEN_KEY, TOKEN_SECRET,
};
use crate::host::check::Finding;
use crate::link::{Endpoint, dial};
use crate::pki::{Token, facts_of, names_of, unverified_client_config};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::SocketAddr;

const DAY: i64 = 86_400;
pub(super) const SERVED: &str = "certificate that is served";

pub(super) async fn secrets(client: kube::Client, advertised: Vec<String>) -> Vec<Finding> {
    let (code, name) = ("KE-CERT-030", "Secrets");
    match read::list::<Secret>(&client, Some(NAMESPACE), &ListParams::default()).await {
        Ok(list) => {
            let read = |secret: &str, key: &str| {
                let found = list.iter().find(|item| item.metadata.name.as_deref() == Some(secret))?;
                found.data.as_ref()?.get(key).map(|bytes| bytes.0.clone())
            };
            let (ca, server) = (read(CA_SECRET, CA_CERT), read(SERVER_SECRET, SERVER_CERT));
            let token = read(TOKEN_SECRET, TOKEN_KEY).and_then(|bytes| String::from_utf8(bytes).ok());
            judge_secrets(ca, server, token, &advertised, now().as_second())
        }
        Err(error) => vec![unasked(code, name, error)],
    }
}

/// Asks the cloud of this machine for its certificate and compares it with the one in the Secret: a renewal that has not
/// reached who serves is seen here, long before the old one expires.
pub(super) async fn reloaded(client: kube::Client, serving: Option<SocketAddr>) -> Finding {
    let Some(address) = serving else {
        return Finding::skipped("KE-CERT-033", SERVED, "no cloud runs on this machine");
    };
    let kept = read::get::<Secret>(&client, NAMESPACE, SERVER_SECRET).await;
    let kept = kept.ok().flatten().and_then(|secret| secret.data);
    let kept = kept.and_then(|data| data.get(SERVER_CERT).map(|bytes| der(bytes.0.clone())));
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
    judge_reloaded(kept.as_deref(), served(&Endpoint { host, port: address.port() }).await)
}

/// The certificate that a server shows to anybody.
async fn served(endpoint: &Endpoint) -> Result<Vec<u8>, String> {
    let anyone = unverified_client_config().map_err(|failure| failure.why)?;
    let stream = dial(endpoint, anyone, CALL).await.map_err(|error| error.to_string())?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    shown.map(|der| der.to_vec()).ok_or_else(|| "no certificate was shown".to_owned())
}

fn judge_reloaded(kept: Option<&[u8]>, served: Result<Vec<u8>, String>) -> Finding {
    let code = "KE-CERT-033";
    let Some(kept) = kept else { return Finding::skipped(code, SERVED, "because of KE-CERT-031") };
    match served {
        Ok(served) if served == kept => Finding::fine(code, SERVED, "the one in the Secret"),
        Ok(_) => Finding::warning(code, SERVED, "another one than in the Secret")
            .because("the cloud has not taken up the renewed certificate; nodes will refuse it once the old one expires")
            .fix("kedge status, and a restart of kedge cloud run if it stays"),
        Err(error) => Finding::failed(code, SERVED, error)
            .because("nodes that connect meet the same")
            .fix("kedge status"),
    }
}

/// DER, from DER or PEM.
fn der(bytes: Vec<u8>) -> Vec<u8> {
    match CertificateDer::from_pem_slice(&bytes) {
        Ok(certificate) => certificate.to_vec(),
        Err(_) => bytes,
    }
}

fn judge_secrets(
    ca: Option<Vec<u8>>,
    server: Option<Vec<u8>>,
    token: Option<String>,
    advertised: &[String],
    now: i64,
) -> Vec<Finding> {
    let ca = ca.map(der);
    let mut findings = vec![
        judge_life("KE-CERT-030", "authority in the Secret", ca.as_deref(), now),
        judge_life(
            "KE-CERT-031",
            "server certificate in the Secret",
            server.clone().map(der).as_deref(),
            now,
        ),
    ];
    if let Some(server) = server.map(der) {
        let names = names_of(&server);
        let missing: Vec<&str> = advertised
            .iter()
            .map(String::as_str)
            .filter(|name| !names.iter().any(|known| known == name))
            .collect();
        let name = "names of the cloud";
        findings.push(if missing.is_empty() {
            Finding::fine("KE-CERT-032", name, names.join(" "))
        } else {
            Finding::warning("KE-CERT-032", name, format!("{} not in the certificate", missing.join(" ")))
                .because("nodes that dial such an address refuse the cloud")
                .fix("restart kedge cloud run: it issues the certificate anew for all its names")
        });
    }
    let name = "KubeEdge's join token";
    findings.push(match token.map(|text| Token::parse(&text)) {
        None => Finding::warning("KE-TOKEN-021", name, "none")
            .because("keadm and `kedge gettoken` have nothing to give")
            .fix("kedge status: a running cloud makes one"),
        Some(Err(error)) => Finding::failed("KE-TOKEN-021", name, error.to_string())
            .because("no node could join with it; a running cloud makes a new one where there is none")
            .fix("kubectl -n kubeedge delete secret tokensecret"),
        Some(Ok(token)) if token.expires <= now => Finding::failed("KE-TOKEN-021", name, "expired")
            .because("the cloud makes a new one twice a day; it has not for a while")
            .fix("kedge status"),
        Some(Ok(token)) if ca.as_deref().is_some_and(|ca| !token.fits(ca)) => {
            Finding::failed("KE-TOKEN-021", name, "of another authority")
                .because("no node could join with it")
                .fix("kubectl -n kubeedge delete secret tokensecret")
        }
        Some(Ok(token)) => {
            let left = token.expires - now;
            Finding::fine(
                "KE-TOKEN-021",
                name,
                format!("valid for {} h {:02} min", left / 3600, left % 3600 / 60),
            )
        }
    });
    findings
}

fn judge_life(code: &'static str, name: &'static str, der: Option<&[u8]>, now: i64) -> Finding {
    let Some(der) = der else {
        return Finding::failed(code, name, "none")
            .because("the cloud has not set itself up in this cluster")
            .fix("kedge init");
    };
    let Some(facts) = facts_of(der) else {
        return Finding::failed(code, name, "cannot be read").fix("put the Secret back from a backup");
    };
    let days = (facts.not_after - now).div_euclid(DAY);
    let seen = format!("{days} days left");
    match days {
        ..0 => Finding::failed(code, name, format!("expired {} days ago", -days))
            .because("no node trusts the cloud")
            .fix("kedge cert renew"),
        0..30 => Finding::warning(code, name, seen)
            .because("no node trusts the cloud after that")
            .fix("kedge cert renew"),
        _ => Finding::fine(code, name, seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use crate::pki::Authority;
    use std::time::Duration;

    #[test]
    fn a_certificate_that_was_renewed_and_is_not_served_is_told() {
        assert_eq!(judge_reloaded(Some(b"a"), Ok(b"a".to_vec())).state, State::Fine);
        let old = judge_reloaded(Some(b"a"), Ok(b"b".to_vec()));
        assert_eq!((&*old.code, old.state), ("KE-CERT-033", State::Warning));
        assert_eq!(judge_reloaded(Some(b"a"), Err("refused".to_owned())).state, State::Failed);
        assert_eq!(judge_reloaded(None, Ok(Vec::new())).state, State::Skipped);
    }

    #[test]
    fn secrets_are_judged_by_their_life_and_names() {
        let authority = Authority::generate("KubeEdge").unwrap();
        let server = authority.issue_server("KubeEdge", &["10.0.0.1".to_owned()], 400).unwrap();
        let (server, _) = server.ders().unwrap();
        let token = Token::create(&authority, Duration::from_secs(3600));
        let ca = Some(authority.cert_der().to_vec());
        let today = now().as_second();
        let advertised = ["10.0.0.1".to_owned()];
        let fine = judge_secrets(ca.clone(), Some(server.clone()), Some(token.clone()), &advertised, today);
        assert!(fine.iter().all(|finding| finding.state == State::Fine), "{fine:?}");
        let other = ["10.0.0.2".to_owned()];
        let later = judge_secrets(ca.clone(), Some(server), Some(token.clone()), &other, today + 390 * DAY);
        let states: Vec<State> = later.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Fine, State::Warning, State::Warning, State::Failed]);
        let strange = Authority::generate("KubeEdge").unwrap();
        let mixed = judge_secrets(Some(strange.cert_der().to_vec()), None, Some(token), &[], today);
        assert_eq!(mixed.last().unwrap().seen, "of another authority");
        let nothing = judge_secrets(None, None, None, &[], today);
        assert_eq!(
            nothing.iter().map(|f| f.state).collect::<Vec<_>>(),
            [State::Failed, State::Failed, State::Warning]
        );
    }
}
