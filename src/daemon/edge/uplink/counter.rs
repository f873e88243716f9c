//! The cloud's certificate service as a node sees it (protocol.md §2.5): is it there, whom does it show, what does it
//! issue. `enrol` and `kedge join` ask here, each question with a failure of its own; nothing here touches the disk.

use crate::base::{Exit, Failure, rfc3339};
use crate::host::facts::System;
use crate::link::{DialError, Endpoint, FetchError, dial, fetch, fetch_whole, reach};
use crate::model::NodeName;
use crate::model::machine::{MACHINE_HEADER, fingerprint};
use crate::pki::{Identity, Request, Token, client_config, pem_certificate, unverified_client_config};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_secs(30);
/// Whoever waits at a terminal is told sooner.
const GREETING: Duration = Duration::from_secs(10);
/// A cloud that has just started knows after a moment whose a name is, and is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);
const SIZE: usize = 256 << 10;
pub(super) const FRESH_TOKEN: &str = "get a fresh token in the cloud with: kedge token create";

/// The certificate service at one address.
#[derive(Clone, Debug)]
pub struct Counter {
    endpoint: Endpoint,
}

/// What the service shows to whoever asks.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The authority's certificate in DER; nothing vouches for it but the hash in a token.
    pub authority: Bytes,
    /// The cloud's clock, where its answer tells it; whole seconds.
    pub clock: Option<Timestamp>,
}

impl Counter {
    /// The service at `https://host:port`; port 10002 where none is given.
    pub fn at(address: &str) -> Result<Counter, Failure> {
        let endpoint = Endpoint::parse(address, 10002).filter(|at| at.port != 0).ok_or_else(|| {
            Failure::new("KE-LINK-001", format!("the cloud's address {address:?} cannot be used"))
                .because("it is not host:port")
                .fix("write it as cloud.example:10002")
                .exit(Exit::Configuration)
        })?;
        Ok(Counter { endpoint })
    }

    /// Whether something listens there.
    pub async fn reach(&self) -> Result<(), Failure> {
        let reached = reach(&self.endpoint, GREETING).await;
        reached.map(drop).map_err(|error| dial_failure(&self.endpoint, &error))
    }

    /// Whether what listens speaks TLS; trusts nobody.
    pub async fn shake_hands(&self) -> Result<(), Failure> {
        let shaken = dial(&self.endpoint, unverified_client_config()?, GREETING).await;
        shaken.map(drop).map_err(|error| dial_failure(&self.endpoint, &error))
    }

    /// The authority that the service names, over a connection that is not verified.
    pub async fn look(&self) -> Result<Shown, Failure> {
        self.ask_for_authority(unverified_client_config()?).await
    }

    /// Checks that the authority is the one of the token; answers its certificate as PEM.
    pub fn recognise(&self, shown: &Shown, token: &Token) -> Result<String, Failure> {
        if !token.fits(&shown.authority) {
            let why = format!("the hash in the token is not that of the authority at {}", self.endpoint);
            return Err(Failure::new("KE-TOKEN-001", "the join token belongs to another cloud")
                .because(why)
                .fix("check the address, or get the token from this cloud with: kedge token create"));
        }
        Ok(pem_certificate(&shown.authority))
    }

    /// Gets a certificate for the token from a service that this authority vouches for.
    pub async fn certify(&self, node: &NodeName, token: &Token, ca_pem: &str) -> Result<Identity, Failure> {
        self.apply(node, client_config(ca_pem, None)?, Some(&token.bearer)).await
    }

    /// The authority over a connection that is verified.
    pub(super) async fn authority(&self, tls: Arc<rustls::ClientConfig>) -> Result<Bytes, Failure> {
        Ok(self.ask_for_authority(tls).await?.authority)
    }

    async fn ask_for_authority(&self, tls: Arc<rustls::ClientConfig>) -> Result<Shown, Failure> {
        let endpoint = &self.endpoint;
        let request = http::Request::get("/ca.crt").body(Full::default()).map_err(no_request)?;
        let answer = fetch_whole(endpoint, tls, request, SIZE, TIME).await;
        let answer = answer.map_err(|error| unreachable(endpoint, &error))?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::new("KE-LINK-003", format!("{endpoint} does not serve /ca.crt"))
                .because(format!("it answered with status {}", answer.status().as_u16()))
                .fix("check that the address is that of a kedge or KubeEdge cloud"));
        }
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        let clock = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        Ok(Shown { authority: answer.into_body(), clock })
    }

    /// Asks for a certificate by a token, or by the certificate that the TLS configuration shows.
    pub(super) async fn apply(
        &self,
        node: &NodeName,
        tls: Arc<rustls::ClientConfig>,
        bearer: Option<&str>,
    ) -> Result<Identity, Failure> {
        let endpoint = &self.endpoint;
        let csr = Request::new(&format!("system:node:{node}"), &["system:nodes"])?;
        let mut request = http::Request::get("/edge.crt").header("NodeName", node.as_str());
        if let Some(bearer) = bearer {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if let Some(machine) = this_machine() {
            request = request.header(MACHINE_HEADER, machine);
        }
        let request = request.body(Full::new(Bytes::from(csr.csr_der.clone()))).map_err(no_request)?;
        let began = Instant::now();
        let (status, body) = loop {
            let answer = fetch(endpoint, tls.clone(), request.clone(), SIZE, TIME).await;
            let (status, body) = answer.map_err(|error| unreachable(endpoint, &error))?;
            if status != StatusCode::SERVICE_UNAVAILABLE || began.elapsed() >= PATIENCE {
                break (status, body);
            }
            tokio::time::sleep(AGAIN).await;
        };
        let line = || -> String {
            String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect()
        };
        let said = || format!("{endpoint} answered {}: {}", status.as_u16(), line());
        match status {
            StatusCode::OK => csr.fulfil(&body),
            StatusCode::UNAUTHORIZED if bearer.is_some() => {
                let what = format!("the cloud refuses a certificate for {node}");
                Err(Failure::new("KE-TOKEN-003", what).because(said()).fix(FRESH_TOKEN))
            }
            StatusCode::CONFLICT => {
                Err(Failure::new("KE-DUP-001", format!("the name {node} is taken"))
                    .because(line())
                    .fix(format!(
                        "choose another name; to let this machine take it: kedge token create --node {node} --takeover in the cloud, or kubectl delete node {node} once whoever has it is off"
                    )))
            }
            _ => Err(Failure::new("KE-CERT-004", format!("the cloud gives no certificate to {node}"))
                .because(said())
                .fix("see the cloud's log; join again with a fresh token if it does not know the node")),
        }
    }
}

/// The fingerprint under which the cloud knows this machine.
fn this_machine() -> Option<String> {
    let system = System::read();
    fingerprint(&system.machine_id, &system.system_uuid)
}

pub(super) fn expired_token(token: &Token) -> Failure {
    let since = Timestamp::from_second(token.expires).map(rfc3339).unwrap_or_default();
    Failure::new("KE-TOKEN-002", "the join token has expired")
        .because(format!("it was valid until {since}"))
        .fix(FRESH_TOKEN)
}

fn no_request(error: http::Error) -> Failure {
    Failure::new("KE-LINK-001", "the request to the cloud cannot be made")
        .because(error)
        .fix("check the cloud's address and the node's name in the configuration")
}

fn unreachable(endpoint: &Endpoint, error: &FetchError) -> Failure {
    match error {
        FetchError::Dial(error) => dial_failure(endpoint, error),
        other => Failure::new("KE-LINK-002", format!("cannot reach the cloud at {endpoint}"))
            .because(other)
            .fix("check the address, the network and that the cloud runs")
            .exit(Exit::Unreachable),
    }
}

/// Tells a broken trust from a broken network.
pub(super) fn dial_failure(endpoint: &Endpoint, error: &DialError) -> Failure {
    let DialError::Tls(tls) = error else {
        return Failure::new("KE-LINK-002", format!("cannot reach the cloud at {endpoint}"))
            .because(error)
            .fix("check the address, the network and that the cloud runs")
            .exit(Exit::Unreachable);
    };
    let what = format!("there is no trust between this node and the cloud at {endpoint}");
    match tls {
        rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForNameContext { .. })
        | rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForName) => Failure::new(
            "KE-CERT-005",
            what,
        )
        .because(format!("the cloud's certificate does not name {}", endpoint.host))
        .fix(
            "use an address that the certificate names, or add this one to advertiseAddress or dnsNames of modules.cloudHub in the cloud's cloudcore.yaml",
        ),
        rustls::Error::AlertReceived(alert) => Failure::new("KE-CERT-006", what)
            .because(format!("the cloud refuses the node's certificate ({alert:?})"))
            .fix("join again with a fresh token: kedge token create"),
        other => Failure::new("KE-CERT-003", what)
            .because(other)
            .fix("check the clock; if the cloud was set up anew, join again with a token of it"),
    }
}
