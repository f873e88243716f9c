//! The cloud as a machine that joins it sees it: the first four milestones, all before anything is written. What fails
//! on the way there is the network's, what fails from the hash on is a matter of identity.

use super::account::Account;
use super::args::{CloudAt, Wish};
use super::clock;
use super::milestones::Milestone;
use super::plan::{Papers, authority};
use crate::base::{Exit, Failure, now, read_limited};
use crate::config::edge::EdgeConfig;
use crate::daemon::edge::uplink::{Counter, Enrolment, Files, Shown, enrol};
use crate::model::NodeName;
use crate::pki::{Token, certificates_of};

const CA_LIMIT: u64 = 256 << 10;

/// The token as it was typed, read.
pub(super) fn token(wish: &Wish) -> Result<Option<Token>, Failure> {
    let Some(text) = &wish.token else { return Ok(None) };
    let token = Token::parse(text.reveal()).map_err(|error| {
        Failure::new("KE-TOKEN-004", "the join token cannot be read")
            .because(error)
            .fix("copy the whole line of `kedge token create`: four parts with dots between them, or their base64")
            .exit(Exit::Identity)
    })?;
    Ok(Some(token))
}

/// The first host at which the cloud's certificate service and its hub listen.
pub(super) async fn reach(cloud: &CloudAt, account: &mut Account<'_>) -> Result<String, Failure> {
    account.begin(Milestone::Tcp);
    let mut last = None;
    for host in &cloud.hosts {
        match both(cloud, host).await {
            Ok(()) => {
                let ports = format!("{host}, ports {} and {}", cloud.ports.https, cloud.ports.websocket);
                account.reached(Milestone::Tcp, &ports);
                return Ok(host.clone());
            }
            Err(failure) => {
                last.get_or_insert(failure);
            }
        }
    }
    let nowhere = || Failure::new("KE-JOIN-001", "the cloud's address is missing");
    Err(last.unwrap_or_else(nowhere).exit(Exit::Network))
}

async fn both(cloud: &CloudAt, host: &str) -> Result<(), Failure> {
    Counter::at(&authority(host, cloud.ports.https))?.reach().await?;
    Counter::at(&authority(host, cloud.ports.websocket))?.reach().await
}

/// The service at this address, what it shows, and whether the token can be used: everything but the certificate.
pub(super) async fn recognise(
    https: &str,
    node: &NodeName,
    token: Option<&Token>,
    account: &mut Account<'_>,
) -> Result<(Counter, Option<String>), Failure> {
    let network = |failure: Failure| failure.exit(Exit::Network);
    let counter = Counter::at(https).map_err(network)?;
    account.begin(Milestone::Tls);
    counter.shake_hands().await.map_err(network)?;
    account.reached(Milestone::Tls, "");
    account.begin(Milestone::CaHash);
    let Some(token) = token else {
        account.reached(Milestone::CaHash, "no token, the authority on this machine counts");
        return Ok((counter, None));
    };
    let shown = counter.look().await.map_err(network)?;
    let ca_pem = trusted(&counter, &shown, token, node).map_err(|failure| failure.exit(Exit::Identity))?;
    let short = token.ca_hash.get(..12).unwrap_or_default();
    account.reached(Milestone::CaHash, &format!("{short}…"));
    Ok((counter, Some(ca_pem)))
}

fn trusted(counter: &Counter, shown: &Shown, token: &Token, node: &NodeName) -> Result<String, Failure> {
    let ca_pem = counter.recognise(shown, token)?;
    clock::judge(token, node, now(), shown.clock)?;
    Ok(ca_pem)
}

/// The certificate that is here already, if it is this node's and of the authority that the token names.
pub(super) async fn has_certificate(config: &EdgeConfig, token: Option<&Token>) -> Result<(), Failure> {
    let hub = &config.hub;
    let files = Files { ca: hub.ca_file.clone(), cert: hub.cert_file.clone(), key: hub.key_file.clone() };
    let ca_file = files.ca.clone();
    enrol(&Enrolment { node: config.node.clone(), https: hub.http_server.clone(), token: None, files })
        .await?;
    let Some(token) = token else { return Ok(()) };
    let text = String::from_utf8_lossy(&read_limited(&ca_file, CA_LIMIT)?).into_owned();
    if certificates_of(&text)?.iter().any(|der| token.fits(der)) {
        return Ok(());
    }
    Err(Failure::new("KE-TOKEN-001", "the join token belongs to another cloud")
        .because(format!("{} is another authority than the one of the token", ca_file.display())))
}

/// A new certificate for the token.
pub(super) async fn certify(
    counter: &Counter,
    node: &NodeName,
    (token, ca_pem): (&Token, String),
    account: &mut Account<'_>,
) -> Result<Papers, Failure> {
    account.begin(Milestone::Certificate);
    let issued = counter.certify(node, token, &ca_pem).await;
    let identity = issued.map_err(|failure| {
        let exit = if failure.exit == Exit::Unreachable { Exit::Network } else { Exit::Identity };
        failure.exit(exit)
    })?;
    account.reached(Milestone::Certificate, &format!("issued for {node}"));
    Ok(Papers { ca_pem, identity })
}

/// What to say where neither a certificate nor a token is there.
pub(super) fn no_token(missing: &Failure) -> Failure {
    Failure::new("KE-TOKEN-016", "a join token is needed")
        .because(missing)
        .fix("run `kedge token create` on the cloud, and say --token or --join-file")
        .exit(Exit::Identity)
}
