//! Ports that kedge listens on: free, held by kedge itself, or by whom. The broker's port is special: a broker that
//! serves there already is used as it is.

use super::{Wanted, mqtt};
use crate::config::cloud::CloudConfig;
use crate::config::edge::{EdgeConfig, MqttMode};
use crate::host::check::{Check, Finding, Group};
use crate::host::ports::{Holder, holder};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

const CODE: &str = "KE-PORT-010";
const MQTT_LIMIT: Duration = Duration::from_millis(1200);

/// What kedge does with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// kedge listens.
    Listen,
    /// kedge listens unless a broker is there, which it then uses.
    Broker,
    /// Switched off; somebody else may have it.
    Off,
}

/// A port and what kedge wants of it.
#[derive(Clone, Debug)]
pub struct WantedPort {
    pub address: SocketAddr,
    /// Such as `MQTT`.
    pub name: &'static str,
    pub udp: bool,
    pub usage: Use,
    /// The setting that moves it, such as `modules.serviceBus.port`.
    pub setting: &'static str,
}

fn tcp(address: SocketAddr, name: &'static str, usage: Use, setting: &'static str) -> WantedPort {
    WantedPort { address, name, udp: false, usage, setting }
}

const MQTT_OUT: &str = "modules.eventBus.mqttServerExternal";
const MQTT_IN: &str = "modules.eventBus.mqttServerInternal";
const KUBELET: &str = "modules.edged.tailoredKubeletConfig.readOnlyPort";
const META: &str = "modules.metaManager.metaServer.server";
const BUS: &str = "modules.serviceBus.port";

pub(super) fn of_new_edge() -> Vec<WantedPort> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    vec![
        tcp(local(1883), "MQTT", Use::Broker, MQTT_OUT),
        tcp(local(1884), "MQTT, internal", Use::Off, MQTT_IN),
        tcp(local(9060), "ServiceBus", Use::Off, BUS),
        tcp(local(10350), "kubelet API", Use::Off, KUBELET),
        tcp(local(10550), "edge API", Use::Off, META),
    ]
}

pub(super) fn of_edge(config: &EdgeConfig) -> Vec<WantedPort> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mqtt = &config.mqtt;
    let on = |wanted: bool, usage: Use| if wanted { usage } else { Use::Off };
    let address = |text: &str, or: u16| {
        text.replacen("localhost", "127.0.0.1", 1).parse().unwrap_or_else(|_| local(or))
    };
    let external: SocketAddr = address(&mqtt.external, 1883);
    // A broker on another machine takes no port here.
    let external_is_here = mqtt
        .external
        .parse::<SocketAddr>()
        .map_or(mqtt.external.starts_with("localhost:"), |at| at.ip().is_loopback());
    let stands_in = mqtt.enabled && Wanted::of_mqtt(mqtt.mode) && external_is_here;
    let internal = mqtt.enabled && mqtt.mode != MqttMode::External;
    let bus = &config.service_bus;
    vec![
        tcp(external, "MQTT", on(stands_in, Use::Broker), MQTT_OUT),
        tcp(address(&mqtt.internal, 1884), "MQTT, internal", on(internal, Use::Listen), MQTT_IN),
        tcp(bus.listen, "ServiceBus", on(bus.enabled, Use::Listen), BUS),
        tcp(local(config.edged.kubelet_port), "kubelet API", Use::Off, KUBELET),
        tcp(local(10550), "edge API", Use::Off, META),
    ]
}

pub(super) fn of_new_cloud() -> Vec<WantedPort> {
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let mut ports = vec![
        tcp(any(9443), "router", Use::Off, "modules.router.port"),
        tcp(any(10000), "WebSocket", Use::Listen, "modules.cloudHub.websocket.port"),
        WantedPort { udp: true, ..tcp(any(10001), "QUIC", Use::Off, "modules.cloudHub.quic.port") },
        tcp(any(10002), "HTTPS", Use::Listen, "modules.cloudHub.https.port"),
        tcp(any(10003), "stream", Use::Listen, "modules.cloudStream.streamPort"),
        tcp(any(10004), "tunnel", Use::Listen, "modules.cloudStream.tunnelPort"),
    ];
    ports.sort_by_key(|port| port.address.port());
    ports
}

pub(super) fn of_cloud(config: &CloudConfig) -> Vec<WantedPort> {
    let on = |wanted: bool| if wanted { Use::Listen } else { Use::Off };
    let mut ports = vec![
        tcp(config.router.listen, "router", on(config.router.enabled), "modules.router.port"),
        tcp(config.hub.websocket, "WebSocket", Use::Listen, "modules.cloudHub.websocket.port"),
        tcp(config.hub.https, "HTTPS", Use::Listen, "modules.cloudHub.https.port"),
        tcp(config.stream.stream, "stream", on(config.stream.enabled), "modules.cloudStream.streamPort"),
        tcp(config.stream.tunnel, "tunnel", on(config.stream.enabled), "modules.cloudStream.tunnelPort"),
    ];
    if config.api.embedded {
        ports.push(tcp(config.api.listen, "Kubernetes API", Use::Listen, "kedge.apiListen"));
    }
    ports
}

pub(super) fn check(wanted: &Wanted) -> Check {
    let (ports, takeover) = (wanted.ports.clone(), wanted.takeover);
    Check::asking(CODE, Group::Network, "ports", async move {
        futures_util::future::join_all(ports.into_iter().map(|port| one(port, takeover))).await
    })
}

async fn one(port: WantedPort, takeover: bool) -> Finding {
    let looked = port.clone();
    let state = tokio::task::spawn_blocking(move || look(&looked)).await;
    let Ok(bound) = state else { return Finding::failed(CODE, title(&port), "the check broke off") };
    let taken = matches!(bound, Bound::Held(_));
    let broker = match port.usage {
        Use::Broker if taken => Some(mqtt::probe(&port.address.to_string(), None, MQTT_LIMIT).await),
        _ => None,
    };
    judge(&port, &bound, broker.as_ref(), takeover)
}

#[derive(Debug)]
enum Bound {
    Free,
    Held(Option<Holder>),
    Refused(std::io::Error),
}

fn look(port: &WantedPort) -> Bound {
    let bound = if port.udp {
        UdpSocket::bind(port.address).map(drop)
    } else {
        TcpListener::bind(port.address).map(drop)
    };
    match bound {
        Ok(()) => Bound::Free,
        Err(error) if error.kind() == ErrorKind::AddrInUse => Bound::Held(holder(port.address.port())),
        Err(error) => Bound::Refused(error),
    }
}

fn title(port: &WantedPort) -> String {
    format!("port {} ({})", port.address.port(), port.name)
}

fn told(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, name, unit: Some(unit) }) => format!("held by {name} (pid {pid}, {unit})"),
        Some(Holder { pid, name, unit: None }) => format!("held by {name} (pid {pid})"),
        None => "held by a process that cannot be seen".to_owned(),
    }
}

fn judge(port: &WantedPort, bound: &Bound, broker: Option<&Result<u8, String>>, takeover: bool) -> Finding {
    let name = title(port);
    let holder = match bound {
        Bound::Free if port.usage == Use::Off => return Finding::fine(CODE, name, "free, not in use"),
        Bound::Free => return Finding::fine(CODE, name, "free"),
        Bound::Refused(error) => return refused(port, name, error),
        Bound::Held(holder) => holder.as_ref(),
    };
    let seen = told(holder);
    let by = |program: &str| holder.is_some_and(|holder| holder.name == program);
    if by("kedge") || by("kedge-main") {
        return Finding::fine(CODE, name, seen);
    }
    if takeover && (by("edgecore") || by("cloudcore")) {
        return Finding::fine(CODE, name, seen + ", which gives its place to kedge");
    }
    match (port.usage, broker) {
        (Use::Off, _) => return Finding::fine(CODE, name, seen + "; kedge does not use it here"),
        (Use::Broker, Some(Ok(0))) => {
            return Finding::fine(CODE, name, seen + ", a broker that kedge uses as it is");
        }
        (Use::Broker, Some(Ok(code))) => {
            return Finding::warning(CODE, name, format!("{seen}: {}", mqtt::refusal(*code)))
                .because("devices and rules speak over that broker, and kedge must be let in")
                .fix("kedge config set modules.eventBus.mqttUsername=… modules.eventBus.mqttPassword=…");
        }
        (Use::Broker | Use::Listen, _) => {}
    }
    let ours = format!(
        "or move kedge: --set {0}=… with the join or init, `kedge config set {0}=…` after it",
        port.setting
    );
    let stop = match holder {
        Some(Holder { unit: Some(unit), .. }) => format!("systemctl disable --now {unit}, {ours}"),
        Some(Holder { pid, .. }) => format!("kill {pid}, {ours}"),
        None => format!("ss -tulnp 'sport = :{}' as root tells who, {ours}", port.address.port()),
    };
    Finding::failed(CODE, name, seen).because(format!("kedge serves {} there", port.name)).fix(stop)
}

fn refused(port: &WantedPort, name: String, error: &std::io::Error) -> Finding {
    if port.usage == Use::Off {
        return Finding::fine(CODE, name, "not in use");
    }
    let unspecified = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let finding = Finding::failed(CODE, name, error.to_string());
    match error.kind() {
        ErrorKind::AddrNotAvailable if port.address.ip() != unspecified => finding
            .because(format!("this machine has no address {}", port.address.ip()))
            .fix(format!("kedge config set {}=… to an address of this machine", port.setting)),
        _ => finding.because("the port cannot be opened").fix("run the same command with sudo"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    fn port(usage: Use) -> WantedPort {
        tcp(SocketAddr::from(([127, 0, 0, 1], 1883)), "MQTT", usage, MQTT_OUT)
    }

    fn held(name: &str, unit: Option<&str>) -> Bound {
        Bound::Held(Some(Holder { pid: 7, name: name.to_owned(), unit: unit.map(str::to_owned) }))
    }

    #[test]
    fn the_holder_is_named_with_the_command_that_stops_it() {
        let finding = judge(&port(Use::Listen), &held("nginx", Some("nginx.service")), None, false);
        assert_eq!(finding.state, State::Failed);
        assert_eq!(finding.seen, "held by nginx (pid 7, nginx.service)");
        assert!(
            finding.fix.starts_with("systemctl disable --now nginx.service, or move kedge"),
            "{finding:?}"
        );
        let finding = judge(&port(Use::Listen), &held("nc", None), None, false);
        assert!(finding.fix.starts_with("kill 7"), "{finding:?}");
        assert_eq!(judge(&port(Use::Listen), &Bound::Held(None), None, false).state, State::Failed);
    }

    #[test]
    fn what_is_kedges_own_or_not_used_is_fine() {
        assert_eq!(judge(&port(Use::Listen), &held("kedge", None), None, false).state, State::Fine);
        assert_eq!(judge(&port(Use::Off), &held("nginx", None), None, false).state, State::Fine);
        assert_eq!(judge(&port(Use::Listen), &Bound::Free, None, false).seen, "free");
        assert_eq!(judge(&port(Use::Listen), &held("edgecore", None), None, true).state, State::Fine);
        assert_eq!(judge(&port(Use::Listen), &held("edgecore", None), None, false).state, State::Failed);
    }

    #[test]
    fn a_broker_that_serves_already_is_used() {
        let at = |answer: Result<u8, String>| {
            judge(&port(Use::Broker), &held("mosquitto", None), Some(&answer), false).state
        };
        assert_eq!(at(Ok(0)), State::Fine);
        assert_eq!(at(Ok(5)), State::Warning);
        assert_eq!(at(Err("what answers does not speak MQTT".to_owned())), State::Failed);
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let finding = refused(&port(Use::Listen), "x".to_owned(), &ErrorKind::AddrNotAvailable.into());
        assert!(finding.why.contains("127.0.0.1"), "{finding:?}");
    }

    #[tokio::test]
    async fn a_real_listener_is_found_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let finding = one(WantedPort { address, ..port(Use::Listen) }, false).await;
        assert_eq!(finding.state, State::Failed);
        assert!(finding.seen.contains(&format!("pid {}", std::process::id())), "{finding:?}");
        drop(listener);
        assert_eq!(one(WantedPort { address, ..port(Use::Listen) }, false).await.state, State::Fine);
    }

    #[test]
    fn every_port_of_the_contract_is_looked_at() {
        let numbers = |ports: Vec<WantedPort>| ports.iter().map(|p| p.address.port()).collect::<Vec<_>>();
        assert_eq!(numbers(of_new_edge()), [1883, 1884, 9060, 10350, 10550]);
        assert_eq!(numbers(of_new_cloud()), [9443, 10000, 10001, 10002, 10003, 10004]);
        let config = EdgeConfig::from_value(&serde_json::json!({}), "x").unwrap().config;
        assert_eq!(numbers(of_edge(&config)), [1883, 1884, 9060, 10350, 10550]);
        let config = CloudConfig::from_value(&serde_json::json!({}), "x").unwrap().config;
        assert_eq!(numbers(of_cloud(&config)), [9443, 10000, 10002, 10003, 10004]);
    }
}
