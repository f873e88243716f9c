//! How large packets may be on the way to the cloud: full ones are really sent, over TLS, and an answer proves that they
//! came. Where none comes, smaller ones are tried side by side: a way that drops large packets without a word lets
//! connections begin and then hang.

use super::place::papers;
use super::reach::{ANSWER, Reached, TlsTrouble, named, question};
use crate::config::edge::EdgeConfig;
use crate::host::check::Finding;
use crate::host::routes::{Device, towards};
use crate::link::{Endpoint, dial, dial_in_segments, exchange, path_mtu};
use crate::pki::client_config;
use futures_util::future::join_all;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const CODE: &str = "KE-MTU-002";
pub(super) const TITLE: &str = "packet size to the cloud";
/// For full packets, and for smaller ones after them.
const LIMIT: Duration = Duration::from_millis(1800);
const AGAIN: Duration = Duration::from_millis(2200);
/// IPv6's smallest; below it TLS with certificates becomes slow at best.
const SMALLEST: u32 = 1280;
/// What ways are known to carry: PPPoE, tunnels of all kinds, mobile networks.
const SIZES: [u32; 9] = [1492, 1476, 1450, 1420, 1400, 1360, 1300, 1280, 1000];
/// Several packets, even large ones; far below what servers read of a head.
const PADDING: (usize, usize) = (4_000, 20_000);

/// What was measured.
#[derive(Debug, Default)]
struct Way {
    device: Option<Device>,
    /// What the kernel has learned of the way.
    path: Option<u32>,
    trial: Trial,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Trial {
    Through(Duration),
    /// Full packets are lost; the largest that are not.
    Lost(u32),
    #[default]
    NoAnswer,
}

pub(super) async fn look(config: Option<&EdgeConfig>, reached: &Reached) -> Finding {
    let silent = match (&reached.tcp, &reached.tls) {
        (None, _) => return Finding::skipped(CODE, TITLE, "the link to the cloud is switched off"),
        (Some(Err(_)), _) => return Finding::skipped(CODE, TITLE, "because of KE-LINK-010"),
        (_, Some(Err(TlsTrouble::NoPapers))) => {
            return Finding::skipped(CODE, TITLE, "the node has no certificate yet");
        }
        (_, Some(Err(TlsTrouble::Names(_)))) => {
            return Finding::skipped(CODE, TITLE, "because of KE-CERT-023");
        }
        (_, Some(Err(TlsTrouble::Other(_))) | None) => {
            return Finding::skipped(CODE, TITLE, "because of KE-LINK-011");
        }
        (_, Some(Err(TlsTrouble::Silent))) => true,
        (_, Some(Ok(_))) => false,
    };
    let Some(sender) = config.and_then(|config| Sender::new(config, &reached.address)) else {
        return Finding::skipped(CODE, TITLE, "because of KE-LINK-011");
    };
    judge(&sender.measure(silent).await)
}

/// Who sends, and to whom.
struct Sender {
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
    project: String,
    node: String,
}

impl Sender {
    fn new(config: &EdgeConfig, address: &str) -> Option<Sender> {
        let endpoint = Endpoint::parse(address, 10000)?;
        let papers = papers(config);
        let identity = papers.identity.ok()?;
        let tls = client_config(&papers.ca_pem.ok()?, Some(&identity)).ok()?;
        Some(Sender { endpoint, tls, project: config.hub.project_id.clone(), node: named(&identity) })
    }

    async fn measure(&self, silent: bool) -> Way {
        let resolved = tokio::net::lookup_host((self.endpoint.host.as_str(), self.endpoint.port)).await;
        let peer = resolved.ok().and_then(|mut addresses| addresses.next());
        let mut way = Way { device: peer.and_then(|peer| towards(peer.ip())), ..Way::default() };
        let size = way.device.as_ref().map_or(1500, |device| device.mtu);
        if !silent {
            let (path, took) = self.full(size).await;
            way.path = path;
            if let Some(took) = took {
                way.trial = Trial::Through(took);
                return way;
            }
        }
        let smaller = SIZES.into_iter().filter(|tried| *tried < size);
        let tried = join_all(smaller.map(|tried| self.small(tried, peer.is_some_and(|peer| peer.is_ipv6()))));
        if let Some(largest) = tried.await.into_iter().flatten().max() {
            way.trial = Trial::Lost(largest);
        }
        way
    }

    /// Sends a question of several full packets. The size of the way as the kernel knows it afterwards, and the time to
    /// an answer.
    async fn full(&self, size: u32) -> (Option<u32>, Option<Duration>) {
        let Ok(mut stream) = dial(&self.endpoint, self.tls.clone(), LIMIT).await else { return (None, None) };
        let started = Instant::now();
        let asked = async {
            let request = question(&self.project, &self.node, padding(size))?;
            exchange(&mut stream, &self.endpoint.to_string(), request, ANSWER).await.ok()
        };
        let answer = tokio::time::timeout(LIMIT, asked).await.ok().flatten();
        let took = answer.map(|_| started.elapsed());
        (path_mtu(stream.get_ref().0), took)
    }

    /// Whether a question in packets of this size is answered; neither side sends larger ones.
    async fn small(&self, size: u32, v6: bool) -> Option<u32> {
        let head = if v6 { 60 } else { 40 };
        let asked = async {
            let segment = size.saturating_sub(head);
            let stream = dial_in_segments(&self.endpoint, self.tls.clone(), segment, AGAIN).await.ok()?;
            let request = question(&self.project, &self.node, padding(size))?;
            exchange(stream, &self.endpoint.to_string(), request, ANSWER).await.ok()
        };
        tokio::time::timeout(AGAIN, asked).await.ok().flatten().map(|_| size)
    }
}

/// More than two packets.
fn padding(size: u32) -> usize {
    (size as usize * 2).clamp(PADDING.0, PADDING.1)
}

fn judge(way: &Way) -> Finding {
    let on = way.device.as_ref().map(|device| format!("{} on {}", device.mtu, device.name));
    let name = way.device.as_ref().map_or("DEV", |device| device.name.as_str());
    match (&way.trial, way.path) {
        (Trial::Through(took), path) => {
            let took = format!("answered in {:.1} ms", took.as_secs_f64() * 1000.0);
            let sizes = match (path, on) {
                (Some(path), Some(on)) if way.device.as_ref().is_some_and(|device| path < device.mtu) => {
                    format!("{path} bytes, {on}")
                }
                (_, Some(on)) => on.replacen(" on ", " bytes on ", 1),
                (Some(path), None) => format!("{path} bytes"),
                (None, None) => "full packets".to_owned(),
            };
            let seen = format!("{sizes}, {took}");
            if path.is_some_and(|path| path < SMALLEST) {
                return Finding::warning(CODE, TITLE, seen)
                    .because("certificates take several such packets, and IPv6 does not work at all")
                    .fix("a tunnel with less of its own in each packet, or none");
            }
            Finding::fine(CODE, TITLE, seen)
        }
        (Trial::Lost(largest), _) => {
            let on = on.unwrap_or_else(|| "full ones are sent".to_owned());
            Finding::failed(CODE, TITLE, format!("{largest} bytes get through, {on} do not"))
                .because("larger packets are dropped on the way and no router says so: connections begin and then hang")
                .fix(format!("ip link set {name} mtu {largest}"))
        }
        (Trial::NoAnswer, _) => {
            Finding::skipped(CODE, TITLE, "the cloud has not answered, to small packets neither")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    fn way(trial: Trial, path: u32) -> Way {
        let device = Device { name: "eth0".to_owned(), mtu: 1500 };
        Way { device: Some(device), path: Some(path), trial }
    }

    #[test]
    fn what_was_carried_is_told_with_what_the_device_would_send() {
        let through = |path| judge(&way(Trial::Through(Duration::from_micros(3100)), path));
        assert_eq!(through(1500).seen, "1500 bytes on eth0, answered in 3.1 ms");
        assert_eq!(through(1400).seen, "1400 bytes, 1500 on eth0, answered in 3.1 ms");
        assert_eq!((through(1400).state, through(1200).state), (State::Fine, State::Warning));
        let lost = judge(&way(Trial::Lost(1400), 1500));
        assert_eq!((&*lost.code, lost.state), ("KE-MTU-002", State::Failed));
        assert_eq!(lost.seen, "1400 bytes get through, 1500 on eth0 do not");
        assert_eq!(lost.fix, "ip link set eth0 mtu 1400");
        assert_eq!(judge(&Way::default()).state, State::Skipped);
        assert!(SIZES.is_sorted_by(|a, b| a > b));
    }

    #[tokio::test]
    async fn without_a_connection_nothing_is_sent() {
        let why = async |reached: Reached| look(None, &reached).await.why;
        assert_eq!(why(Reached::default()).await, "the link to the cloud is switched off");
        let refused = Reached { tcp: Some(Err("refused".into())), ..Reached::default() };
        assert_eq!(why(refused).await, "because of KE-LINK-010");
        let connected =
            |tls| Reached { tcp: Some(Ok(Duration::ZERO)), tls: Some(Err(tls)), ..Reached::default() };
        assert_eq!(why(connected(TlsTrouble::Other("x".into()))).await, "because of KE-LINK-011");
        assert_eq!(why(connected(TlsTrouble::Names(Vec::new()))).await, "because of KE-CERT-023");
        assert_eq!(why(connected(TlsTrouble::NoPapers)).await, "the node has no certificate yet");
    }
}
