//! The way to the cloud, layer by layer: TCP, packets, TLS with names and chain, the clock and the version of the other
//! side, the session as the daemon tells it, the tunnel for logs. `reach` connects once, and several checks look at it.

use super::packets;
use super::place::Place;
use super::reach::{Reached, TlsTrouble, reach};
use crate::base::{now, now_ms};
use crate::cmd::status::{RIVAL_FIX, rival};
use crate::host::check::{Check, Cost, Finding, Group};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jiff::Timestamp;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

const SKEW: i64 = 60;
const DAY: i64 = 86_400;

type Reaching = Shared<BoxFuture<'static, Arc<Reached>>>;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let config = place.edge.clone();
    let far = config.as_ref().is_some_and(|config| !is_here(&config.hub.websocket));
    let reaching: Reaching = async move {
        match config.filter(|config| config.hub.enabled) {
            Some(config) => Arc::new(reach(&config).await),
            None => Arc::default(),
        }
    }
    .boxed()
    .shared();
    let look = |judge: fn(&Reached) -> Finding| {
        let reaching = reaching.clone();
        async move { vec![judge(&*reaching.await)] }
    };
    let net = |check: Check| if far { check.net() } else { check };
    let (carried, measured) = (reaching.clone(), place.clone());
    let (session, stream, skew, quic) = (place.clone(), place.clone(), place.clone(), place.clone());
    vec![
        net(Check::asking("KE-LINK-010", Group::CloudLink, "TCP", look(tcp))),
        net(Check::asking("KE-LINK-011", Group::CloudLink, "TLS", look(tls))
            .also(&["KE-CERT-023"])
            .after(&["KE-LINK-010", packets::CODE])),
        net(Check::asking(packets::CODE, Group::CloudLink, packets::TITLE, async move {
            vec![packets::look(measured.edge.as_ref(), &*carried.await).await]
        })
        .cost(Cost::Large)
        .after(&["KE-LINK-010"])),
        net(Check::asking("KE-CLOCK-002", Group::CloudLink, "clock against the cloud's", look(clock))),
        Check::blocking("KE-LINK-012", Group::CloudLink, "session", move || {
            std::iter::once(judge_session(&session)).chain(judge_rival(&session)).collect()
        })
        .also(&["KE-DUP-003"])
        .after(&["KE-LINK-010", packets::CODE, "KE-LINK-011", "KE-DAEMON-001"]),
        Check::blocking("KE-QUIC-001", Group::CloudLink, "protocol", move || {
            vec![judge_protocol(&quic.document)]
        }),
        Check::blocking("KE-STREAM-001", Group::CloudLink, "logs through the tunnel", move || {
            vec![tunnel(&stream)]
        }),
        Check::blocking("KE-SKEW-001", Group::CloudLink, "versions", move || vec![versions(&skew)]),
        net(Check::asking("KE-SKEW-003", Group::CloudLink, "version of the cloud", look(cloud_version))
            .after(&["KE-LINK-010", packets::CODE, "KE-LINK-011"])),
    ]
}

fn is_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn tcp(reached: &Reached) -> Finding {
    let (code, title) = ("KE-LINK-010", "TCP");
    match &reached.tcp {
        None => Finding::skipped(
            code,
            title,
            "the link to the cloud is switched off, or its configuration cannot be used",
        ),
        Some(Ok(time)) => Finding::fine(
            code,
            title,
            format!("{} in {:.1} ms", reached.address, time.as_secs_f64() * 1000.0),
        ),
        Some(Err(error)) => Finding::failed(code, title, format!("{}: {error}", reached.address))
            .because(
                "pods run on; nothing new arrives and nothing is reported until the cloud can be reached",
            )
            .fix(format!(
                "kedge status on the cloud, and a way through firewalls for TCP {}",
                reached.address
            )),
    }
}

fn tls(reached: &Reached) -> Finding {
    let (code, title) = ("KE-LINK-011", "TLS");
    match &reached.tls {
        None => Finding::skipped(code, title, "because of KE-LINK-010"),
        Some(Ok(shown)) => {
            let days = (shown.not_after - now().as_second()).div_euclid(DAY);
            let seen = format!(
                "{:.1} ms, the cloud's certificate names {}, {days} days left",
                shown.took.as_secs_f64() * 1000.0,
                shown.names.join(" ")
            );
            if days < 7 {
                return Finding::warning(code, title, seen)
                    .because("when it has expired no node connects")
                    .fix("kedge cert renew (on the cloud)");
            }
            Finding::fine(code, title, seen)
        }
        Some(Err(TlsTrouble::NoPapers)) => Finding::skipped(code, title, "the node has no certificate yet"),
        Some(Err(TlsTrouble::Silent)) => Finding::failed(code, title, "no answer in time")
            .because("something on the way breaks TLS, or the cloud is too busy to answer")
            .fix("kedge status (on the cloud)"),
        Some(Err(TlsTrouble::Names(names))) => {
            let host = reached.address.rsplit_once(':').map_or(reached.address.as_str(), |(host, _)| host);
            Finding::failed(
                "KE-CERT-023",
                title,
                format!("the certificate names {}, dialled was {host}", names.join(" ")),
            )
            .because("the cloud does not know this address as one of its own")
            .fix(format!("kedge config set modules.cloudHub.advertiseAddress+={host} (on the cloud)"))
        }
        Some(Err(TlsTrouble::Other(error))) => {
            let unknown = error.contains("UnknownIssuer") || error.contains("UnknownCA");
            let why = if unknown {
                "the cloud was made anew with another authority, or this address is another cloud's"
            } else {
                "something on the way breaks TLS, or the cloud refuses the node's certificate"
            };
            Finding::failed(code, title, error.clone())
                .because(why)
                .fix("kedge reset edge, then kedge join --token …")
        }
    }
}

fn clock(reached: &Reached) -> Finding {
    judge_clock(reached.said.as_ref().and_then(|said| said.clocks))
}

fn judge_clock(clocks: Option<(i64, i64)>) -> Finding {
    let (code, title) = ("KE-CLOCK-002", "clock against the cloud's");
    let Some((theirs, ours)) = clocks else {
        return Finding::skipped(code, title, "the cloud has not told its time");
    };
    let skew = ours - theirs;
    let word = if skew < 0 { "behind" } else { "ahead" };
    let seen = format!("{} s {word}", skew.abs());
    if skew.abs() > SKEW {
        return Finding::failed(code, title, seen)
            .because("tokens, certificates and twin versions are judged by the clock")
            .fix(crate::host::remedy::set_clock());
    }
    Finding::fine(code, title, if skew.abs() <= 1 { "the same".to_owned() } else { seen })
}

fn judge_session(place: &Place) -> Finding {
    let (code, title) = ("KE-LINK-012", "session");
    if place.daemon.is_none() {
        return Finding::skipped(code, title, "because of KE-DAEMON-001");
    }
    let since = place.daemon.as_ref().and_then(|daemon| daemon.document.pointer("/link/since")?.as_i64());
    let since = since.filter(|since| *since > 0).and_then(|since| Timestamp::from_millisecond(since).ok());
    let since = since.map(|since| format!(" since {}", crate::base::rfc3339(since))).unwrap_or_default();
    if place.told("/link/link") == "up" {
        let micros =
            place.daemon.as_ref().and_then(|daemon| daemon.document.pointer("/link/roundTrip")?.as_u64());
        let trip = micros
            .map(|micros| format!(", round trip {}.{:01} ms", micros / 1000, micros % 1000 / 100))
            .unwrap_or_default();
        return Finding::fine(
            code,
            title,
            format!("WebSocket to {}{since}{trip}", place.told("/link/remote")),
        );
    }
    let (error, fix) = (place.told("/link/error"), place.told("/link/fix"));
    let seen = if error.is_empty() { format!("down{since}") } else { format!("down{since}: {error}") };
    Finding::failed(code, title, seen)
        .because("nothing new arrives and nothing is reported; what runs, runs on")
        .fix(if fix.is_empty() { "kedge status" } else { fix })
}

/// KubeEdge's nodes may be set to QUIC; here WebSocket carries the link whatever is asked for.
fn judge_protocol(document: &Value) -> Finding {
    let (code, title) = ("KE-QUIC-001", "protocol");
    if document.pointer("/modules/edgeHub/quic/enable") != Some(&Value::Bool(true)) {
        return Finding::fine(code, title, "WebSocket");
    }
    Finding::warning(code, title, "QUIC is asked for, WebSocket carries the link")
        .because("kedge speaks no QUIC; it does not wait for it and goes by WebSocket at once")
        .fix("kedge config set modules.edgeHub.quic.enable=false modules.edgeHub.websocket.enable=true")
        .fixable()
}

/// Another daemon that takes turns with this one.
fn judge_rival(place: &Place) -> Option<Finding> {
    let told = rival(&place.daemon.as_ref()?.document)?;
    Some(
        Finding::failed("KE-DUP-003", "one daemon per node", told)
            .because("the cloud serves one of them at a time: pods and reports of both go astray")
            .fix(RIVAL_FIX),
    )
}

/// The API server's end of the tunnel is the cloud's, which reads a real byte there; from here the tunnel itself is seen.
fn tunnel(place: &Place) -> Finding {
    let (code, title) = ("KE-STREAM-001", "logs through the tunnel");
    match &place.edge {
        Some(config) if !config.stream.enabled => Finding::warning(code, title, "switched off")
            .because("kubectl logs, exec and attach do not reach the pods of this node")
            .fix("kedge config set modules.edgeStream.enable=true")
            .fixable(),
        Some(_) if place.daemon.is_none() => Finding::skipped(code, title, "because of KE-DAEMON-001"),
        Some(_) => judge_tunnel(place.daemon.as_ref().and_then(|it| it.document.get("tunnel")), now_ms()),
        None => Finding::skipped(code, title, "because of KE-ETC-001"),
    }
}

/// What the daemon says of its tunnel.
fn judge_tunnel(tunnel: Option<&Value>, now: i64) -> Finding {
    let (code, title) = ("KE-STREAM-001", "logs through the tunnel");
    let Some(tunnel) = tunnel.filter(|tunnel| tunnel.is_object()) else {
        return Finding::skipped(code, title, "the node runs no pods, or its daemon is of another version");
    };
    let number = |field: &str| tunnel.get(field).and_then(Value::as_i64).unwrap_or(0);
    let since = number("since");
    if tunnel.get("open") == Some(&Value::Bool(true)) {
        let last = match number("lastRequest") {
            0 => "no request yet".to_owned(),
            at => format!("{} requests, the last {} ago", number("requests"), ago(now - at)),
        };
        return Finding::fine(code, title, format!("open for {}, {last}", ago(now - since)));
    }
    let seen = match (since, tunnel.get("error").and_then(Value::as_str).unwrap_or_default()) {
        (0, _) => "not opened yet".to_owned(),
        (since, "") => format!("closed for {}", ago(now - since)),
        (since, error) => format!("closed for {}: {error}", ago(now - since)),
    };
    Finding::failed(code, title, seen)
        .because("kubectl logs, exec and attach do not reach the pods of this node")
        .fix("open TCP 10004 from this node to the cloud; modules.edgeStream.server says where it dials")
}

/// A time in its largest unit.
pub(super) fn ago(millis: i64) -> String {
    match millis.max(0) / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn versions(place: &Place) -> Finding {
    let (code, title) = ("KE-SKEW-001", "versions");
    let own = env!("CARGO_PKG_VERSION");
    let running = place.told("/version");
    if running.is_empty() {
        return Finding::skipped(code, title, "because of KE-DAEMON-001");
    }
    if running != own {
        return Finding::warning(code, title, format!("{running} runs, this program is {own}"))
            .because("the daemon was not restarted after the program was replaced, or there are two programs")
            .fix("systemctl restart kedge-edge");
    }
    Finding::fine(code, title, format!("{own}, for Kubernetes {}", place.told("/kubeletVersion")))
}

fn cloud_version(reached: &Reached) -> Finding {
    judge_cloud_version(reached.said.as_ref().map(|said| said.version.as_deref()))
}

/// How many minor versions an edge may be behind its cloud.
const BEHIND: u64 = 2;

/// `None`: nobody has answered; `Some(None)`: somebody who tells no version.
fn judge_cloud_version(told: Option<Option<&str>>) -> Finding {
    let (code, title, own) = ("KE-SKEW-003", "version of the cloud", env!("CARGO_PKG_VERSION"));
    let Some(told) = told else { return Finding::skipped(code, title, "the cloud has not answered") };
    let Some(cloud) = told else {
        return Finding::skipped(code, title, "the cloud tells none, as KubeEdge's own");
    };
    let numbers = |text: &str| -> Option<(u64, u64, u64)> {
        let mut parts = text.split(['-', '+']).next()?.split('.').map(|part| part.parse::<u64>().ok());
        Some((parts.next()??, parts.next()??, parts.next()??))
    };
    let (Some(theirs), Some(ours)) = (numbers(cloud), numbers(own)) else {
        return Finding::skipped(code, title, "the cloud tells one that is no version");
    };
    let seen = format!("{cloud}, here {own}");
    if ours > theirs {
        return Finding::warning(code, title, seen)
            .because("the node is newer than its cloud, which does not know what the node says anew")
            .fix("replace kedge on the cloud, then kedge init (on the cloud); or kedge edge rollback");
    }
    if (ours.0, ours.1 + BEHIND) < (theirs.0, theirs.1) {
        return Finding::warning(code, title, seen)
            .because(format!("a node is tested with clouds up to {BEHIND} minor versions newer"))
            .fix(format!("kedge edge upgrade --to {cloud}"));
    }
    Finding::fine(code, title, if theirs == ours { format!("{cloud}, as here") } else { seen })
}

#[cfg(test)]
mod tests {
    use super::super::reach::Shown;
    use super::*;
    use crate::host::check::State;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_tunnel_is_judged_by_what_the_daemon_says() {
        let open = json!({"open": true, "since": 1_000, "requests": 2, "lastRequest": 61_000});
        let finding = judge_tunnel(Some(&open), 600_000);
        assert_eq!(
            (finding.state, finding.seen.as_str()),
            (State::Fine, "open for 9 min, 2 requests, the last 8 min ago")
        );
        let closed = json!({"open": false, "since": 1_000, "error": "connection refused", "requests": 0});
        let finding = judge_tunnel(Some(&closed), 31_000);
        assert_eq!(
            (finding.state, finding.seen.as_str()),
            (State::Failed, "closed for 30 s: connection refused")
        );
        assert_eq!(judge_tunnel(None, 1).state, State::Skipped);
        assert_eq!(judge_tunnel(Some(&Value::Null), 1).state, State::Skipped);
    }

    #[test]
    fn quic_is_told_where_it_is_asked_for() {
        let asks = json!({"modules": {"edgeHub": {"quic": {"enable": true}}}});
        let told = judge_protocol(&asks);
        assert_eq!((&*told.code, told.state), ("KE-QUIC-001", State::Warning));
        assert_eq!(judge_protocol(&Value::Null).seen, "WebSocket");
    }

    #[test]
    fn a_node_is_compared_with_its_cloud() {
        let own = env!("CARGO_PKG_VERSION");
        let judged = |told| judge_cloud_version(Some(Some(told)));
        assert_eq!(judged(own).seen, format!("{own}, as here"));
        let older = judged("0.0.1");
        assert_eq!((&*older.code, older.state), ("KE-SKEW-003", State::Warning));
        assert_eq!(older.seen, format!("0.0.1, here {own}"));
        assert_eq!(judged("0.2.9-rc.1").state, State::Fine);
        assert_eq!(judged("1.0.0").fix, "kedge edge upgrade --to 1.0.0");
        for nothing in [None, Some(None), Some(Some("new"))] {
            assert_eq!(judge_cloud_version(nothing).state, State::Skipped, "{nothing:?}");
        }
    }

    #[test]
    fn clocks_are_compared_in_seconds() {
        assert_eq!(judge_clock(Some((100, 101))).seen, "the same");
        assert_eq!(judge_clock(Some((100, 130))).seen, "30 s ahead");
        let late = judge_clock(Some((1000, 800)));
        assert_eq!((late.state, late.seen.as_str()), (State::Failed, "200 s behind"));
        assert_eq!(judge_clock(None).state, State::Skipped);
    }

    #[test]
    fn each_layer_has_its_sentence() {
        let reached = |tls| Reached {
            address: "10.0.0.5:10000".to_owned(),
            tcp: Some(Ok(Duration::from_millis(3))),
            tls: Some(tls),
            said: None,
        };
        let wrong = tls(&reached(Err(TlsTrouble::Names(vec!["10.0.0.9".to_owned()]))));
        assert_eq!((&*wrong.code, wrong.state), ("KE-CERT-023", State::Failed));
        assert_eq!(wrong.seen, "the certificate names 10.0.0.9, dialled was 10.0.0.5");
        let strange =
            tls(&reached(Err(TlsTrouble::Other("invalid peer certificate: UnknownIssuer".to_owned()))));
        assert!(strange.why.contains("another authority"), "{strange:?}");
        assert_eq!(tls(&reached(Err(TlsTrouble::Silent))).seen, "no answer in time");
        let shown =
            |not_after| Shown { took: Duration::from_millis(4), names: vec!["c".to_owned()], not_after };
        assert_eq!(tls(&reached(Ok(shown(now().as_second() + 90 * DAY)))).state, State::Fine);
        assert_eq!(tls(&reached(Ok(shown(now().as_second() + 3 * DAY)))).state, State::Warning);
        let refused = Reached { tcp: Some(Err("Connection refused".to_owned())), ..Reached::default() };
        assert_eq!((tcp(&refused).state, tls(&refused).state), (State::Failed, State::Skipped));
        assert_eq!(tcp(&Reached::default()).state, State::Skipped);
    }

    #[test]
    fn addresses_of_this_machine_need_no_route() {
        assert!(is_here("127.0.0.1:10000") && is_here("[::1]:1") && is_here("localhost:1"));
        assert!(!is_here("10.0.0.1:10000") && !is_here("cloud.lan:10000"));
    }
}
