//! The ways of a mesh to other nodes: the relays that EdgeMesh's agent here is told of are really dialled and must greet as
//! its tunnel does, and the connections that the agent holds are counted. A stranger is sent nothing.

use super::place::Place;
use crate::host::check::{Check, Finding, Group};
use crate::host::ports::established;
use crate::model::Kind;
use crate::store::Reader;
use futures_util::future::join_all;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const CODE: &str = "KE-MESH-008";
const TITLE: &str = "ways to other nodes";
/// Where nodes of EdgeMesh reach each other unless they are told otherwise.
const TUNNEL: u64 = 20006;
const LIMIT: Duration = Duration::from_millis(1500);
/// More relays than a site has.
const MOST: usize = 16;
/// What a tunnel says first when no key is shared; with one it sends a nonce of this length.
const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";
const NONCE: usize = 24;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let here = place.clone();
    vec![Check::asking(CODE, Group::Mesh, TITLE, async move { look(here).await }).after(&["KE-DB-001"])]
}

/// A node that others are to be reached by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Relay {
    node: String,
    address: String,
}

/// What the agent's configuration says of its tunnel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tunnel {
    port: u64,
    relays: Vec<Relay>,
}

async fn look(place: Arc<Place>) -> Vec<Finding> {
    let own = place.edge.as_ref().map(|config| config.node.to_string()).unwrap_or_default();
    let read = tokio::task::spawn_blocking(move || {
        let database =
            place.edge.as_ref().map(|config| config.database.as_path()).filter(|path| path.is_file());
        let tunnel = database.and_then(tunnel);
        let held = tunnel.as_ref().and_then(|tunnel| u16::try_from(tunnel.port).ok()).map(established);
        (tunnel, held.unwrap_or_default())
    });
    let Ok((Some(tunnel), held)) = read.await else {
        return vec![Finding::skipped(CODE, TITLE, "no mesh is configured on this node")];
    };
    let relays = tunnel.relays.iter().filter(|relay| relay.node != own).take(MOST);
    let mut findings =
        join_all(relays.map(async |relay| judge_relay(relay, greeted(&relay.address).await))).await;
    findings.push(judge_held(tunnel.port, held.len(), findings.is_empty()));
    findings
}

/// The tunnel's part of the agent's ConfigMap.
fn tunnel(database: &Path) -> Option<Tunnel> {
    let maps = Reader::open(database).ok()?.objects(Kind::ConfigMap).ok()?;
    let texts =
        maps.iter().filter_map(|(_, map)| map.get("data")?.as_object()).flat_map(|data| data.values());
    let texts = texts.filter_map(Value::as_str).filter(|text| text.contains("edgeTunnel"));
    texts.filter_map(|text| serde_yaml::from_str::<Value>(text).ok()).find_map(|config| tunnel_of(&config))
}

fn tunnel_of(config: &Value) -> Option<Tunnel> {
    let part = config.pointer("/modules/edgeTunnel")?;
    let port = part.get("listenPort").and_then(Value::as_u64).unwrap_or(TUNNEL);
    let mut relays = Vec::new();
    for relay in part.get("relayNodes").and_then(Value::as_array).into_iter().flatten() {
        let node = relay.get("nodeName").and_then(Value::as_str).unwrap_or_default();
        let addresses = relay.get("advertiseAddress").and_then(Value::as_array).into_iter().flatten();
        for address in addresses.filter_map(Value::as_str) {
            let v6 = address.contains(':') && !address.starts_with('[');
            let address = if v6 { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
            relays.push(Relay { node: node.to_owned(), address });
        }
    }
    Some(Tunnel { port, relays })
}

/// How a relay has greeted.
#[derive(Debug, PartialEq, Eq)]
enum Greeting {
    /// The libp2p of a tunnel.
    Tunnel,
    /// Something that may be a tunnel with a shared key.
    Keyed,
    Stranger,
}

/// The time to a connection, and who is there.
async fn greeted(address: &str) -> Result<(Duration, Greeting), String> {
    let started = Instant::now();
    let connected = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
    let mut stream = connected
        .map_err(|_| format!("no answer within {:.1} s", LIMIT.as_secs_f64()))?
        .map_err(|error| error.to_string())?;
    let took = started.elapsed();
    let mut said = Vec::with_capacity(NONCE);
    let listen = async {
        while said.len() < NONCE {
            match stream.read_buf(&mut said).await {
                Ok(1..) if !said.starts_with(MULTISTREAM) => {}
                _ => break,
            }
        }
    };
    drop(tokio::time::timeout(LIMIT, listen).await);
    let greeting = match said.as_slice() {
        said if said.starts_with(MULTISTREAM) => Greeting::Tunnel,
        // A nonce is no text.
        said if said.len() >= NONCE && !said.is_ascii() => Greeting::Keyed,
        _ => Greeting::Stranger,
    };
    Ok((took, greeting))
}

fn judge_relay(relay: &Relay, answer: Result<(Duration, Greeting), String>) -> Finding {
    let (name, address) = (format!("way to {}", relay.node), &relay.address);
    let why = "nodes of other networks are reached over it: their Services do not answer here without it";
    match answer {
        Ok((took, greeting @ (Greeting::Tunnel | Greeting::Keyed))) => {
            let key = if greeting == Greeting::Keyed { ", with a shared key" } else { "" };
            Finding::fine(
                CODE,
                name,
                format!("{address} greets in {:.1} ms{key}", took.as_secs_f64() * 1000.0),
            )
        }
        Ok((_, Greeting::Stranger)) => {
            Finding::warning(CODE, name, format!("{address} accepts, and greets not as EdgeMesh's tunnel"))
                .because(why)
                .fix(format!("see who listens there: ss -ltnp (on {})", relay.node))
        }
        Err(error) => Finding::warning(CODE, name, format!("{address}: {error}"))
            .because(why)
            .fix(format!("open TCP {address}, and see that the agent runs on {}", relay.node)),
    }
}

fn judge_held(port: u64, held: usize, alone: bool) -> Finding {
    let seen = format!("{held} connections on port {port}");
    if held == 0 && alone {
        return Finding::warning(CODE, TITLE, format!("{seen}, and no relay is named"))
            .because("the agent has met no other node: only Services with pods on this node work")
            .fix("kubectl -n kubeedge edit configmap edgemesh-agent-cfg: name relayNodes, unless this node is the only one");
    }
    Finding::fine(CODE, TITLE, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use serde_json::json;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[test]
    fn relays_are_read_from_the_agents_configuration() {
        let config = json!({"kubeAPIConfig": {}, "modules": {"edgeTunnel": {"enable": true, "relayNodes": [
            {"nodeName": "cloud", "advertiseAddress": ["10.0.0.1", "fd00::1"]}, {"nodeName": "x"}]}}});
        let tunnel = tunnel_of(&config).unwrap();
        let addresses: Vec<&str> = tunnel.relays.iter().map(|relay| relay.address.as_str()).collect();
        assert_eq!(addresses, ["10.0.0.1:20006", "[fd00::1]:20006"]);
        assert_eq!((tunnel.port, tunnel.relays[0].node.as_str()), (20006, "cloud"));
        assert_eq!(tunnel_of(&json!({"modules": {}})), None);
        let other = tunnel_of(&json!({"modules": {"edgeTunnel": {"listenPort": 7}}})).unwrap();
        assert_eq!(other, Tunnel { port: 7, relays: Vec::new() });
    }

    #[tokio::test]
    async fn a_relay_is_known_by_its_greeting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answered = async |greeting: &[u8]| {
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting).await.unwrap();
                stream.shutdown().await.unwrap();
            };
            let (answer, ()) = tokio::join!(greeted(&address), serve);
            answer.unwrap().1
        };
        assert_eq!(answered(b"\x13/multistream/1.0.0\n").await, Greeting::Tunnel);
        assert_eq!(answered(&[0x9c; 24]).await, Greeting::Keyed);
        assert_eq!(answered(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await, Greeting::Stranger);
        assert_eq!(answered(b"").await, Greeting::Stranger);
        drop(listener);
        let relay = Relay { node: "cloud".into(), address: address.clone() };
        let refused = judge_relay(&relay, greeted(&address).await);
        assert_eq!((&*refused.code, refused.state), ("KE-MESH-008", State::Warning));
        assert!(refused.seen.contains("refused") && refused.name == "way to cloud", "{refused:?}");
        let stranger = judge_relay(&relay, Ok((Duration::ZERO, Greeting::Stranger)));
        assert_eq!(stranger.state, State::Warning);
        let keyed = judge_relay(&relay, Ok((Duration::from_micros(1500), Greeting::Keyed)));
        assert!(keyed.seen.ends_with("greets in 1.5 ms, with a shared key"), "{keyed:?}");
    }

    #[test]
    fn a_node_that_has_met_nobody_is_told() {
        assert_eq!(judge_held(20006, 0, true).state, State::Warning);
        assert_eq!(judge_held(20006, 0, false).state, State::Fine);
        assert_eq!(judge_held(20006, 3, true).seen, "3 connections on port 20006");
    }
}
