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
