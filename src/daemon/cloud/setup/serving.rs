//! Waits until a cloud really serves: each advertised address answers a TLS handshake with a certificate of the authority,
//! and `/ca.crt` is that authority. Says what is pending while it waits.

use crate::base::{Backoff, Failure};
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

/// Waits for all; `note` hears what is pending when it changes.
pub(super) async fn wait(
    endpoints: &[Endpoint],
    authority: &Authority,
    limit: Duration,
    mut pending: impl AsyncFnMut(&str) -> Option<String>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    for endpoint in endpoints {
        loop {
            let Err(why) = ask(endpoint, authority).await else { break };
            let deeper = pending(&why).await;
            if started.elapsed() > limit {
                return Err(Failure::new("KE-INIT-008", format!("the cloud does not serve at {endpoint}"))
                    .because(deeper.unwrap_or(why))
                    .fix("mend what is named and run the same command again: it goes on where it is")
                    .exit(crate::base::Exit::TimedOut));
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Crew, Exit, Stop};
    use crate::link::http::{serve, text};
    use crate::pki::{Clients, install_crypto_provider, server_config};

    async fn verdict(address: &str, authority: &Authority, deeper: Option<&str>) -> Failure {
        let endpoint = Endpoint::parse(address, 0).unwrap();
        let pending = async |_: &str| deeper.map(str::to_owned);
        wait(&[endpoint], authority, Duration::ZERO, pending).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_cloud_that_does_not_serve_is_told_with_the_deepest_reason() {
        install_crypto_provider();
        let authority = Authority::generate("KubeEdge").unwrap();
        let identity = authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
        let tls = server_config(&identity, Clients::None).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut crew = Crew::new();
        let answer = |_, _| async { text(http::StatusCode::OK, "another authority") };
        crew.spawn(serve(listener, tls, Stop::new(), answer));
        let other = verdict(&address, &authority, None).await;
        assert!(other.why.contains("another authority"), "{other}");
        let deeper = verdict(&address, &authority, Some("its image is missing")).await;
        assert_eq!(deeper.why, "its image is missing");
        let nobody = verdict("127.0.0.1:1", &authority, None).await;
        assert!(nobody.why.contains("127.0.0.1:1"), "{nobody}");
        for failure in [other, deeper, nobody] {
            assert_eq!((failure.code, failure.exit), ("KE-INIT-008", Exit::TimedOut));
            assert!(failure.fix.contains("the same command again"), "{failure:?}");
        }
    }
}
