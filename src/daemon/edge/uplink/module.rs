//! The uplink as a module: enrol, connect, serve, lose, again. Without a cloud it waits and the node works on.

use super::book::Book;
use super::counter::dial_failure;
use super::enrol::{self, Credentials, Enrolment, enrol};
use super::renewal::Rotation;
use super::session::{Desk, End, serve};
use super::{Config, Inbound, Link, LinkState, Outgoing};
use crate::base::{Backoff, BoxFuture, Exit, Failure, Module, Ready, Stop, random_bytes};
use crate::link::Endpoint;
use crate::link::ws::{self, Reader, Writer, WsError};
use crate::pki::client_config;
use crate::wire::envelope::MESSAGE_LIMIT;
use crate::wire::{DIGEST_HEADER, INSTANCE_HEADER, VERSION_HEADER};
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
        let mut rotation = Rotation::default();
        let enrolment = self.config.enrolment();
        while !stop.is_raised() {
            let mut desk = Desk {
                book: &mut self.book,
                outgoing: &mut self.outgoing,
                inbound: &self.inbound,
                state: &self.state,
                complaints: &mut complaints,
            };
            let opening = open(&self.config, &enrolment, &self.endpoint, &mut rotation);
            let Some(opened) = stop.or(desk.meanwhile(opening)).await else { break };
            let wait = match opened {
                Ok((halves, credentials)) => {
                    last_code = "";
                    let began = Instant::now();
                    self.state.connected(self.endpoint.to_string());
                    tracing::info!(cloud = %self.endpoint, "connected to the cloud");
                    let rotate = self.config.rotate;
                    let renewal = rotation.run(&enrolment, &credentials, rotate);
                    let end = serve(&mut desk, halves, self.config.heartbeat, renewal, &stop).await;
                    desk.book.disconnected();
                    self.state.set(Link::Down);
                    tracing::info!(reason = end.reason(), "disconnected from the cloud");
                    if end == End::Renewed {
                        continue;
                    }
                    if let End::Replaced(own, other) = end {
                        self.state.replaced(own, other);
                    }
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

type Halves = (Writer, Reader);

/// Enrols if needed and connects: with a renewed certificate when one lies ready, which takes its place once the cloud
/// has accepted it, and with the present one otherwise.
async fn open(
    config: &Config,
    enrolment: &Enrolment,
    endpoint: &Endpoint,
    rotation: &mut Rotation,
) -> Result<(Halves, Credentials), Missed> {
    enrol(enrolment).await?;
    let present = enrol::load(enrolment).await?;
    let Some(renewed) = enrol::load_next(enrolment).await else {
        return Ok((dial(config, endpoint, &present).await?, present));
    };
    match dial(config, endpoint, &renewed).await {
        Ok(halves) => {
            enrol::promote(enrolment).await?;
            tracing::info!(node = %config.node, "the node's certificate is renewed");
            Ok((halves, renewed))
        }
        Err(Missed { failure, .. }) => {
            // Whether it is the certificate or the network that is at fault, the present certificate tells.
            let halves = dial(config, endpoint, &present).await?;
            tracing::warn!(code = failure.code, error = %failure, "the renewed certificate is not accepted");
            enrol::discard(enrolment).await;
            rotation.failed(&present);
            Ok((halves, present))
        }
    }
}

async fn dial(config: &Config, endpoint: &Endpoint, credentials: &Credentials) -> Result<Halves, Missed> {
    let tls = client_config(&credentials.ca_pem, Some(&credentials.identity))?;
    let path = format!("/{}/{}/events", config.project, config.node);
    let mut headers = vec![
        ("node_id", config.node.as_str()),
        ("project_id", config.project.as_str()),
        ("ConnectionUse", "msg"),
        (VERSION_HEADER, env!("CARGO_PKG_VERSION")),
    ];
    headers.push((INSTANCE_HEADER, config.instance.as_str()));
    headers.extend(config.digests.then_some(DIGEST_HEADER));
    let connected = ws::connect(endpoint, tls, &path, &headers, MESSAGE_LIMIT, CONNECT).await;
    connected.map_err(|error| {
        let wished = if let WsError::Later(wait) = &error { Some(*wait) } else { None };
        Missed { failure: connect_failure(endpoint, &error), wished }
    })
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
