//! Waits until a cloud really serves: what was applied has become what runs, each advertised address answers a TLS handshake
//! with a certificate of the authority, and `/ca.crt` is that authority.

use super::rollout::Pending;
use crate::base::{Backoff, Exit, Failure};
use crate::link::{Endpoint, fetch};
use crate::pki::{Authority, client_config};
use bytes::Bytes;
use http_body_util::Full;
use std::time::{Duration, Instant};

const TRY: Duration = Duration::from_secs(5);
const SIZE: usize = 64 << 10;

/// Asks once.
pub(super) async fn ask(endpoint: &Endpoint, authority: &Authority) -> Result<(), String> {
    let tls = client_config(&authority.cert_pem(), None).map_err(|failure| failure.to_string())?;
    let request = http::Request::get("/ca.crt").body(Full::<Bytes>::default());
    let request = request.map_err(|error| error.to_string())?;
    let (status, body) =
        fetch(endpoint, tls, request, SIZE, TRY).await.map_err(|error| format!("{endpoint}: {error}"))?;
    if status != http::StatusCode::OK {
        return Err(format!("{endpoint} answered {status} for /ca.crt"));
    }
    if body != authority.cert_der() {
        return Err(format!("{endpoint} is a cloud with another authority"));
    }
    Ok(())
}

/// Waits until nothing is pending and then for all endpoints.
pub(super) async fn wait(
    endpoints: &[Endpoint],
    authority: &Authority,
    limit: Duration,
    mut pending: impl AsyncFnMut() -> Option<Pending>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let failed = |what: String, held: Pending| {
        Failure::new("KE-INIT-008", what).because(held.why).fix(held.fix).exit(Exit::TimedOut)
    };
    loop {
        let failure = match pending().await {
            Some(held) => failed("the cloud does not run as it was applied".to_owned(), held),
            None => match silent(endpoints, authority).await {
                None => return Ok(()),
                Some((endpoint, why)) => {
                    failed(format!("the cloud does not serve at {endpoint}"), Pending::new(why))
                }
            },
        };
        if started.elapsed() > limit {
            return Err(failure);
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// The first endpoint that does not serve this authority, and why.
async fn silent<'a>(endpoints: &'a [Endpoint], authority: &Authority) -> Option<(&'a Endpoint, String)> {
    for endpoint in endpoints {
        if let Err(why) = ask(endpoint, authority).await {
            return Some((endpoint, why));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Crew, Stop};
    use crate::link::http::{full, serve};
    use crate::pki::{Clients, install_crypto_provider, server_config};

    async fn verdict(address: &str, authority: &Authority, held: Option<&str>) -> Result<(), Failure> {
        let endpoint = Endpoint::parse(address, 0).unwrap();
        wait(&[endpoint], authority, Duration::ZERO, async || held.map(Pending::new)).await
    }

    #[tokio::test]
    async fn a_cloud_serves_when_it_runs_as_applied_and_answers() {
        install_crypto_provider();
        let authority = Authority::generate("KubeEdge").unwrap();
        let identity = authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
        let tls = server_config(&identity, Clients::None).unwrap();
        let mut crew = Crew::new();
        let mut serving = async |body: Vec<u8>| {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let answer = move |_, _| {
                let body = body.clone();
                async move { http::Response::new(full(body)) }
            };
            crew.spawn(serve(listener, tls.clone(), Stop::new(), answer));
            address
        };
        let own = serving(authority.cert_der().to_vec()).await;
        let other = serving(b"another authority".to_vec()).await;
        verdict(&own, &authority, None).await.unwrap();
        // Somebody answers there, and it is not what was applied.
        let held = verdict(&own, &authority, Some("its image is missing")).await.unwrap_err();
        assert_eq!(held.why, "its image is missing");
        let other = verdict(&other, &authority, None).await.unwrap_err();
        assert!(other.why.contains("another authority"), "{other}");
        let nobody = verdict("127.0.0.1:1", &authority, None).await.unwrap_err();
        assert!(nobody.what.contains("127.0.0.1:1"), "{nobody}");
        for failure in [other, held, nobody] {
            assert_eq!((failure.code, failure.exit), ("KE-INIT-008", Exit::TimedOut));
            failure.is_as_committed();
            assert!(failure.fix.contains("the same command again"), "{failure:?}");
        }
    }
}
