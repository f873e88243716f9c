//! The uplink as a module: enrol, connect, serve, lose, again. Without a cloud it waits and the node works on.

use super::book::Book;
use super::enrol::{self, Credentials, Enrolment, dial_failure, enrol};
use super::session::{Desk, End, serve};
use super::{Config, Inbound, Link, LinkState, Outgoing};
use crate::base::{Backoff, BoxFuture, Exit, Failure, Module, Ready, Stop, random_bytes};
use crate::link::Endpoint;
use crate::link::ws::{self, Reader, Writer, WsError};
use crate::pki::client_config;
use crate::wire::DIGEST_HEADER;
use crate::wire::envelope::MESSAGE_LIMIT;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const FLOOR: Duration = Duration::from_secs(1);
const CEILING: Duration = Duration::from_secs(30);
/// So many attempts follow each other quickly: a cloud that starts beside the node is there in a moment.
const QUICK: u32 = 3;
/// The longest wait that a cloud may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(300);
/// A connection that lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(30);
/// A renewal that failed is tried again with the connection, at the earliest after so long.
const RENEW_PAUSE: Duration = Duration::from_secs(600);

pub(super) struct UplinkModule {
    pub config: Config,
    pub endpoint: Endpoint,
    pub outgoing: mpsc::Receiver<Outgoing>,
    pub inbound: mpsc::Sender<Inbound>,
    pub state: LinkState,
    /// Kept over a restart of the module: reports must not be lost.
    pub book: Book,
}

impl Module for UplinkModule {
    fn name(&self) -> &'static str {
        "uplink"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.serve(stop, ready))
    }
}

/// A wait of 50 to 300 ms: a short break in the line is over then, and nodes do not all come at once.
fn short_wait() -> Duration {
    let [draw] = random_bytes::<1>();
    Duration::from_millis(50 + u64::from(draw))
}

impl UplinkModule {
    async fn serve(&mut self, stop: Stop, ready: Ready) -> Result<(), Failure> {
        self.state.set(Link::Down);
        self.book.disconnected();
        ready.set();
        let mut complaints = HashSet::new();
        let mut backoff = Backoff::new(FLOOR, CEILING);
        let (mut last_code, mut failures) = ("", 0);
        let mut renewed_at: Option<Instant> = None;
        let enrolment = self.config.enrolment();
        while !stop.is_raised() {
            let mut desk = Desk {
                book: &mut self.book,
                outgoing: &mut self.outgoing,
                inbound: &self.inbound,
                state: &self.state,
                complaints: &mut complaints,
            };
            let opening = open(&self.config, &enrolment, &self.endpoint, &mut renewed_at);
            let Some(opened) = stop.or(desk.meanwhile(opening)).await else { break };
            let wait = match opened {
                Ok((halves, renew_at)) => {
                    last_code = "";
                    let began = Instant::now();
                    self.state.connected(self.endpoint.to_string());
                    tracing::info!(cloud = %self.endpoint, "connected to the cloud");
                    let end = serve(&mut desk, halves, self.config.heartbeat, renew_at, &stop).await;
                    desk.book.disconnected();
                    self.state.set(Link::Down);
                    tracing::info!(reason = end.reason(), "disconnected from the cloud");
                    // A connection that ends at once, as when two nodes share a name, is not opened in a storm.
                    if began.elapsed() >= STEADY {
                        backoff.reset();
                        failures = 0;
                    }
                    failures += 1;
                    match end {
                        End::Closed(Some(wished)) => wished.min(LONGEST_WISH),
                        _ if failures <= QUICK => short_wait(),
                        _ => backoff.next_wait(),
                    }
                }
                Err(Missed { failure, wished }) => {
                    if failure.code != last_code {
                        tracing::warn!(code = failure.code, error = %failure, fix = failure.fix, "no connection to the cloud");
                        last_code = failure.code;
                    }
                    self.state.failed(&failure);
                    failures += 1;
                    match wished {
                        Some(wished) => wished.min(LONGEST_WISH),
                        None if failures <= QUICK => short_wait(),
                        None => backoff.next_wait(),
                    }
                }
            };
            if stop.or(desk.meanwhile(tokio::time::sleep(wait))).await.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Why there is no connection, and when the cloud wants to be called again.
struct Missed {
    failure: Failure,
    wished: Option<Duration>,
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Missed {
        Missed { failure, wished: None }
    }
}

type Opened = ((Writer, Reader), Option<Instant>);

/// Enrols if needed, renews if due, connects.
async fn open(
    config: &Config,
    enrolment: &Enrolment,
    endpoint: &Endpoint,
    renewed_at: &mut Option<Instant>,
) -> Result<Opened, Missed> {
    enrol(enrolment).await?;
    let mut credentials = enrol::load(enrolment).await?;
    let rested = renewed_at.is_none_or(|at| at.elapsed() >= RENEW_PAUSE);
    if config.rotate && rested && until_renewal(&credentials) == Duration::ZERO {
        *renewed_at = Some(Instant::now());
        match enrol::renew(enrolment, &credentials).await {
            Ok(()) => credentials = enrol::load(enrolment).await?,
            Err(failure) => {
                tracing::warn!(code = failure.code, error = %failure, "the certificate could not be renewed");
            }
        }
    }
    let tls = client_config(&credentials.ca_pem, Some(&credentials.identity))?;
    let path = format!("/{}/{}/events", config.project, config.node);
    let mut headers = vec![
        ("node_id", config.node.as_str()),
        ("project_id", config.project.as_str()),
        ("ConnectionUse", "msg"),
        ("Kedge-Version", env!("CARGO_PKG_VERSION")),
    ];
    headers.extend(config.digests.then_some(DIGEST_HEADER));
    let connected = ws::connect(endpoint, tls, &path, &headers, MESSAGE_LIMIT, CONNECT).await;
    let halves = connected.map_err(|error| {
        let wished = if let WsError::Later(wait) = &error { Some(*wait) } else { None };
        Missed { failure: connect_failure(endpoint, &error), wished }
    })?;
    let renew_at = config.rotate.then(|| {
        let pause = if until_renewal(&credentials) == Duration::ZERO { RENEW_PAUSE } else { Duration::ZERO };
        Instant::now() + until_renewal(&credentials).max(pause)
    });
    Ok((halves, renew_at))
}

/// Renewal is due when 0.60 to 0.66 of the certificate's life has passed; the same certificate always gives the same
/// instant.
fn until_renewal(credentials: &Credentials) -> Duration {
    let facts = &credentials.facts;
    let life = facts.not_after.saturating_sub(facts.not_before).max(0);
    let spread = facts.not_before.rem_euclid(60);
    let due = facts.not_before.saturating_add(life / 1000 * (600 + spread));
    let left = due.saturating_sub(crate::base::now().as_second());
    Duration::from_secs(u64::try_from(left).unwrap_or(0))
}

fn connect_failure(endpoint: &Endpoint, error: &WsError) -> Failure {
    match error {
        WsError::Dial(error) => dial_failure(endpoint, error),
        WsError::Refused(status) => {
            Failure::new("KE-LINK-003", format!("the cloud at {endpoint} refuses the connection"))
                .because(format!("it answered with status {status}"))
                .fix("see the cloud's log; the node's name must be the one in its certificate")
        }
        WsError::Later(wait) => Failure::new(
            "KE-LINK-003",
            format!("the cloud at {endpoint} takes no more nodes for now"),
        )
        .because(format!("it asks to come back in {wait:?}"))
        .fix("nothing: the node comes back by itself; raise nodeLimit in cloudcore.yaml if it stays away"),
        other => Failure::new("KE-LINK-002", format!("cannot reach the cloud at {endpoint}"))
            .because(other)
            .fix("check the address, the network and that the cloud runs")
            .exit(Exit::Unreachable),
    }
}
