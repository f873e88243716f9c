//! Both ends of the wire against each other: a real hub and real uplinks over mutual TLS on 127.0.0.1.

use super::cloud::hub::{self, Addresses, Arrival, Hub, Trust};
use super::edge::uplink::{self, Enrolled, Files, Inbound, Link, ReportKey, Uplink};
use crate::base::{Crew, Failure, Module, Ready, Stop};
use crate::host::facts::System;
use crate::link::ws::{Outgoing, Reader, Received, Writer, WsError, connect};
use crate::link::{DialError, Endpoint};
use crate::model::machine::fingerprint;
use crate::model::{Kind, NodeName, ObjectKey, Revision, Status};
use crate::pki::{Authority, Grant, Identity, Token, TokenBook, client_config};
use crate::wire::envelope::MESSAGE_LIMIT;
use crate::wire::{Answer, Down, Envelope, MessageId, Origin, Question, Up, Verb, encode_up};
use futures_util::SinkExt;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}

pub(super) struct Cloud {
    pub hub: Hub,
    pub arrivals: mpsc::Receiver<Arrival>,
    pub authority: Arc<Authority>,
    pub trust: watch::Sender<Trust>,
    tokens: TokenBook,
    pub addresses: Addresses,
    dir: TempDir,
    stop: Stop,
    _crew: Crew,
}

pub(super) fn start(mut module: impl Module, crew: &mut Crew, stop: &Stop) {
    let stop = stop.clone();
    crew.spawn(async move {
        let ready = Ready::detached(module.name());
        module.run(stop, ready).await.unwrap();
    });
}

impl Cloud {
    pub(super) fn start() -> Cloud {
        Cloud::start_with(Duration::from_secs(30))
    }

    fn start_with(keepalive: Duration) -> Cloud {
        Cloud::start_within(keepalive, 500)
    }

    fn start_within(keepalive: Duration, node_limit: usize) -> Cloud {
        Cloud::start_as(keepalive, node_limit, 365 * DAY)
    }

    /// A cloud for so many nodes, whose certificates live so long.
    pub(super) fn start_as(keepalive: Duration, node_limit: usize, certificate_life: Duration) -> Cloud {
        let dir = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::generate("KubeEdge").unwrap());
        let tokens = TokenBook::at(dir.path().join("tokens.json"));
        let identity = authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
        let (trust_sender, trust) = watch::channel(Trust::new(authority.clone(), identity));
        let any = ([127, 0, 0, 1], 0).into();
        let config = hub::Config {
            websocket: any,
            https: any,
            keepalive,
            node_limit,
            certificate_life,
            known_node: Arc::new(|name| {
                Ok(match name {
                    "early" => return Err(hub::NotYet),
                    "known" => Some(hub::KnownNode { edge: true, ..hub::KnownNode::default() }),
                    "ready" => Some(hub::KnownNode { edge: true, ready: true, ..hub::KnownNode::default() }),
                    "plain" => Some(hub::KnownNode::default()),
                    "kubelet" => Some(hub::KnownNode { foreign: true, ..hub::KnownNode::default() }),
                    "held" => Some(hub::KnownNode {
                        machine: Some("0123456789abcdef".to_owned()),
                        edge: true,
                        ..hub::KnownNode::default()
                    }),
                    _ => None,
                })
            }),
            ..hub::Config::new(trust, tokens.clone())
        };
        let (hub, arrivals, module) = hub::new(config).unwrap();
        let (stop, mut crew) = (Stop::new(), Crew::new());
        start(module, &mut crew, &stop);
        let addresses = hub.addresses().unwrap();
        Cloud { hub, arrivals, authority, trust: trust_sender, tokens, addresses, dir, stop, _crew: crew }
    }

    pub(super) fn token(&self) -> String {
        self.tokens.create(&self.authority, DAY, None, None).unwrap()
    }

    pub(super) fn config(&self, node: &str, token: Option<String>) -> uplink::Config {
        let file = |name: &str| self.dir.path().join(node).join(name);
        let (websocket, https) = (self.addresses.websocket.to_string(), self.addresses.https.to_string());
        uplink::Config {
            files: Files { ca: file("ca.crt"), cert: file("node.crt"), key: file("node.key") },
            token,
            heartbeat: Duration::from_millis(200),
            ..uplink::Config::new(name(node), websocket, https)
        }
    }

    pub(super) async fn edge(&mut self, node: &str) -> Edge {
        let (uplink, inbound, module) = uplink::new(self.config(node, Some(self.token()))).unwrap();
        let (stop, mut crew) = (Stop::new(), Crew::new());
        start(module, &mut crew, &stop);
        let mut link = uplink.link();
        soon(link.wait_for(|link| *link == Link::Up)).await.unwrap();
        assert!(matches!(self.arrival().await, Arrival::Connected(who) if who == name(node)));
        Edge { uplink, inbound, _stop: stop, _crew: crew }
    }

    pub(super) async fn arrival(&mut self) -> Arrival {
        soon(self.arrivals.recv()).await.unwrap()
    }

    async fn question(&mut self) -> (NodeName, Question) {
        match self.arrival().await {
            Arrival::Message { node, question } => (node, question),
            other => panic!("{other:?}"),
        }
    }

    fn identity(&self, node: &str) -> Identity {
        self.authority.issue_client(&format!("system:node:{node}"), &["system:nodes"], 1).unwrap()
    }

    /// A plain WebSocket client, as an unmodified edgecore is one.
    pub(super) async fn client(&self, identity: &Identity, node: &str) -> Result<(Writer, Reader), WsError> {
        let tls = client_config(&self.authority.cert_pem(), Some(identity)).unwrap();
        let endpoint = Endpoint::parse(&self.addresses.websocket.to_string(), 0).unwrap();
        let headers = [("node_id", node), ("project_id", "p"), ("ConnectionUse", "msg")];
        connect(&endpoint, tls, "/p/n/events", &headers, MESSAGE_LIMIT, PATIENCE).await
    }
}

pub(super) struct Edge {
    pub uplink: Uplink,
    inbound: mpsc::Receiver<Inbound>,
    _stop: Stop,
    _crew: Crew,
}

pub(super) fn name(node: &str) -> NodeName {
    NodeName::new(node).unwrap()
}

fn config_map(name: &str, revision: u64) -> Down {
    Down::Object {
        verb: Verb::Update,
        origin: Origin::Edge,
        key: ObjectKey::namespaced(Kind::ConfigMap, "default", name),
        revision: Revision(revision),
        object: json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "uid": "u", "resourceVersion": revision.to_string()}}),
    }
}

fn query(name: &str) -> Up {
    Up::Query { key: ObjectKey::namespaced(Kind::ConfigMap, "default", name) }
}

async fn read(reader: &mut Reader) -> Envelope {
    match soon(reader.next()).await.unwrap().unwrap() {
        Received::Data(bytes) => Envelope::decode(&bytes).unwrap(),
        Received::Pong(_) => panic!("no ping was sent"),
    }
}

async fn say(writer: &mut Writer, up: &Up) {
    writer.send(Outgoing::Text(encode_up(up).unwrap().encode())).await.unwrap();
}

#[tokio::test]
async fn an_object_is_acknowledged_once_it_is_stored() {
    let mut cloud = Cloud::start();
    let mut edge = cloud.edge("n1").await;
    cloud.hub.tell(name("n1"), config_map("c", 7)).await.unwrap();
    let Inbound { down, receipt, .. } = soon(edge.inbound.recv()).await.unwrap();
    assert_eq!(down, config_map("c", 7));
    assert!(cloud.arrivals.try_recv().is_err());
    receipt.stored();
    match cloud.arrival().await {
        Arrival::Stored { node, key, uid, revision, deleted } => {
            assert_eq!((node, key.to_string().as_str()), (name("n1"), "default/configmap/c"));
            assert_eq!((uid.as_str(), revision, deleted), ("u", Some(Revision(7)), false));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn questions_are_answered_and_the_answer_is_acknowledged() {
    let mut cloud = Cloud::start();
    let edge = cloud.edge("n1").await;
    let object = json!({"metadata": {"name": "c", "uid": "u", "resourceVersion": "9"}, "data": {"k": "<v>"}});
    let asked = edge.uplink.ask(query("c"), PATIENCE);
    let answering = async {
        let (node, question) = cloud.question().await;
        assert_eq!(question.up, query("c"));
        cloud.hub.answer(node, question, Ok(object.clone())).await.unwrap();
        assert!(matches!(cloud.arrival().await, Arrival::Stored { revision: Some(Revision(9)), .. }));
    };
    let (answer, ()) = tokio::join!(asked, answering);
    assert_eq!(answer, Ok(Answer::Object(object)));
    let asked = edge.uplink.ask(query("d"), PATIENCE);
    let answering = async {
        let (node, question) = cloud.question().await;
        let missing = Status::not_found("configmaps", "d");
        cloud.hub.answer(node, question, Err(missing)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(asked, answering);
    assert!(matches!(answer, Ok(Answer::Failed(status)) if status.is_not_found()));
    let info = edge.uplink.info();
    soon(info.clone().wait_for(|info| info.round_trip.is_some())).await.unwrap();
}

#[tokio::test]
async fn unanswered_reports_are_sent_again_after_a_reconnect() {
    let mut cloud = Cloud::start();
    let edge = cloud.edge("n1").await;
    let patch = Up::NodePatch { name: "n1".to_owned(), patch: "{}".to_owned() };
    let mut confirmed = edge.uplink.report(ReportKey("node".to_owned()), patch.clone()).await.unwrap();
    assert_eq!(cloud.question().await.1.up, patch);
    cloud.hub.forget(name("n1")).await.unwrap();
    assert!(matches!(cloud.arrival().await, Arrival::Disconnected(_)));
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    let (node, question) = cloud.question().await;
    assert_eq!(question.up, patch);
    assert!(confirmed.try_recv().is_err());
    let object = json!({"metadata": {"name": "n1", "resourceVersion": "3"}});
    cloud.hub.answer(node, question, Ok(object.clone())).await.unwrap();
    assert_eq!(soon(confirmed).await.unwrap(), Answer::Object(object));
}

#[tokio::test]
async fn a_second_session_takes_the_place_of_the_first() {
    let mut cloud = Cloud::start();
    let identity = cloud.identity("n1");
    let (_first, mut reader) = cloud.client(&identity, "n1").await.unwrap();
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    let (_second, mut second_reader) = cloud.client(&identity, "n1").await.unwrap();
    assert!(soon(reader.next()).await.is_none());
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    cloud.hub.tell(name("n1"), config_map("c", 1)).await.unwrap();
    assert_eq!(read(&mut second_reader).await.route.resource, "default/configmap/c");
    assert_eq!(cloud.hub.nodes().borrow().len(), 1);
    assert!(cloud.arrivals.try_recv().is_err());
}

#[tokio::test]
async fn a_late_close_never_ends_the_connection_that_came_after() {
    let mut cloud = Cloud::start();
    let identity = cloud.identity("n1");
    let mut old: Option<(Writer, Reader)> = None;
    for _ in 0..100 {
        let (mut writer, reader) = cloud.client(&identity, "n1").await.unwrap();
        assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
        if let Some((mut writer, _)) = old.take() {
            writer.close("late").await;
        }
        // A report that the node is gone would arrive before this question.
        say(&mut writer, &query("c")).await;
        assert_eq!(cloud.question().await.1.up, query("c"));
        old = Some((writer, reader));
    }
    let (_writer, mut reader) = old.unwrap();
    cloud.hub.tell(name("n1"), config_map("c", 1)).await.unwrap();
    assert_eq!(read(&mut reader).await.route.resource, "default/configmap/c");
    assert_eq!(cloud.hub.nodes().borrow().len(), 1);
}

#[tokio::test]
async fn refused_connections_are_closed_and_counted() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let cloud = Cloud::start();
    let said = |headers: &'static str| {
        let cloud = &cloud;
        async move {
            let tls = client_config(&cloud.authority.cert_pem(), Some(&cloud.identity("n1"))).unwrap();
            let socket = tokio::net::TcpStream::connect(cloud.addresses.websocket).await.unwrap();
            let server = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
            let mut stream = tokio_rustls::TlsConnector::from(tls).connect(server, socket).await.unwrap();
            let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let request = format!("GET /e HTTP/1.1\r\nHost: x\r\n{upgrade}{headers}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // Ends only when the hub has closed.
            drop(soon(stream.read_to_end(&mut answer)).await);
            String::from_utf8(answer).unwrap()
        }
    };
    for (headers, status, reason) in [
        ("Node_id: n2\r\nConnectionUse: msg\r\n", " 403 ", "the header node_id differs from the certificate"),
        ("Node_id: n1\r\n", " 400 ", "only connections for messages are served"),
        ("Node_id: n1\r\nConnectionUse: str\r\n", " 400 ", "only connections for messages are served"),
    ] {
        let answer = said(headers).await;
        assert!(answer.contains(status) && answer.ends_with(reason), "{answer}");
    }
    let facts = cloud.hub.refusals().facts();
    let counted = facts.pointer("/connections/system:node:n1").unwrap();
    assert_eq!(counted["only connections for messages are served"], 2, "{facts}");
    assert_eq!(counted["the header node_id differs from the certificate"], 1, "{facts}");
}

#[tokio::test]
async fn a_genuine_edge_gets_one_object_at_a_time_and_resends_keep_their_id() {
    let mut cloud = Cloud::start();
    let (mut writer, mut reader) = cloud.client(&cloud.identity("n1"), "n1").await.unwrap();
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    for (name, revision) in [("a", 1), ("b", 2)] {
        cloud.hub.tell(NodeName::new("n1").unwrap(), config_map(name, revision)).await.unwrap();
    }
    let first = read(&mut reader).await;
    let again = read(&mut reader).await;
    assert_eq!(first, again);
    say(&mut writer, &Up::Acknowledge { of: first.header.msg_id }).await;
    assert_eq!(read(&mut reader).await.route.resource, "default/configmap/b");
    assert!(matches!(cloud.arrival().await, Arrival::Stored { .. }));
}

#[tokio::test]
async fn bad_messages_harm_nobody() {
    let mut cloud = Cloud::start();
    let edge = cloud.edge("good").await;
    let (mut writer, mut reader) = cloud.client(&cloud.identity("bad"), "bad").await.unwrap();
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    for text in
        ["{\"header\":", "[]", "\u{0}", "{\"header\":{\"msg_id\":\"x\"},\"route\":{\"resource\":\"a/b/c\"}}"]
    {
        writer.send(Outgoing::Text(text.to_owned())).await.unwrap();
    }
    let refusal = read(&mut reader).await;
    assert_eq!(refusal.header.parent_msg_id, MessageId("x".to_owned()));
    assert_eq!(refusal.route.operation, "error");
    say(&mut writer, &Up::NodePatch { name: "good".to_owned(), patch: "{}".to_owned() }).await;
    let refusal = read(&mut reader).await;
    assert_eq!(refusal.content["Err"]["ErrStatus"]["reason"], "Forbidden");
    say(&mut writer, &query("c")).await;
    assert_eq!(cloud.question().await.0, name("bad"));

    let mut oversized = raw(&cloud, "bad").await;
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    let huge = "x".repeat(MESSAGE_LIMIT + 1);
    // The hub closes while the message is still being written.
    drop(soon(oversized.send(tokio_tungstenite::tungstenite::Message::text(huge))).await);
    assert!(matches!(cloud.arrival().await, Arrival::Disconnected(who) if who == name("bad")));
    drop(oversized);

    let asked = edge.uplink.ask(query("c"), PATIENCE);
    let answering = async {
        let (node, question) = cloud.question().await;
        cloud.hub.answer(node, question, Ok(json!({"metadata": {}}))).await.unwrap();
    };
    assert!(tokio::join!(asked, answering).0.is_ok());
}

type Tls = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;
type Raw = tokio_tungstenite::WebSocketStream<Tls>;

/// A connection of a node that has said nothing yet.
async fn dialled(cloud: &Cloud, node: &str) -> Tls {
    let tls = client_config(&cloud.authority.cert_pem(), Some(&cloud.identity(node))).unwrap();
    let socket = tokio::net::TcpStream::connect(cloud.addresses.websocket).await.unwrap();
    let server = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(tls).connect(server, socket).await.unwrap()
}

/// `None` when the upgrade is refused.
async fn upgraded(node: &str, stream: Tls) -> Option<Raw> {
    use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
    let request = ClientRequestBuilder::new("wss://127.0.0.1/x".parse().unwrap())
        .with_header("node_id", node)
        .with_header("ConnectionUse", "msg");
    Some(tokio_tungstenite::client_async(request, stream).await.ok()?.0)
}

/// A client without limits of its own.
async fn raw(cloud: &Cloud, node: &str) -> Raw {
    upgraded(node, dialled(cloud, node).await).await.unwrap()
}

#[tokio::test]
async fn a_crowd_that_is_let_in_at_once_is_turned_away_with_a_reason() {
    use futures_util::StreamExt;
    use futures_util::future::join_all;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
    let cloud = Cloud::start_within(Duration::from_secs(30), 1);
    let mut turned_away = None;
    for round in 0..100 {
        let names: Vec<String> = (0..8).map(|n| format!("n{round}-{n}")).collect();
        let streams = join_all(names.iter().map(|name| dialled(&cloud, name))).await;
        // Who asks at once finds room that only one gets.
        let clients = join_all(names.iter().zip(streams).map(|(name, stream)| upgraded(name, stream))).await;
        for (name, mut client) in names.iter().zip(clients).filter_map(|(name, client)| Some((name, client?)))
        {
            let heard = tokio::time::timeout(Duration::from_millis(100), client.next()).await;
            if let Ok(Some(Ok(Message::Close(Some(frame))))) = heard {
                turned_away = Some((name.clone(), frame));
            }
        }
        if turned_away.is_some() {
            break;
        }
        soon(cloud.hub.nodes().wait_for(|nodes| nodes.is_empty())).await.unwrap();
    }
    let (name, frame) = turned_away.unwrap();
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Again, "the limit of nodes is reached"));
    let facts = cloud.hub.refusals().facts();
    let counted = facts.pointer(&format!("/connections/{name}/the limit of nodes is reached"));
    assert_eq!(counted, Some(&json!(1)), "{facts}");
}

#[tokio::test]
async fn an_object_that_no_message_can_hold_is_answered_and_holds_nothing_up() {
    let mut cloud = Cloud::start();
    let (mut writer, mut reader) = cloud.client(&cloud.identity("n1"), "n1").await.unwrap();
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    say(&mut writer, &query("big")).await;
    let (node, question) = cloud.question().await;
    // In JSON as Go writes it each of these takes six bytes.
    let big = "<".repeat(3 << 20);
    let object = json!({"metadata": {"name": "big", "uid": "u"}, "data": {"k": big}});
    cloud.hub.answer(node, question, Ok(object.clone())).await.unwrap();
    let answer = read(&mut reader).await;
    let said = answer.content.to_string();
    assert!(said.contains("no message can hold the object"), "{said}");
    let Down::Object { verb, origin, key, revision, .. } = config_map("big", 5) else { panic!("an object") };
    cloud.hub.tell(name("n1"), Down::Object { verb, origin, key, revision, object }).await.unwrap();
    cloud.hub.tell(name("n1"), config_map("small", 6)).await.unwrap();
    assert_eq!(read(&mut reader).await.route.resource, "default/configmap/small");
    assert_eq!(cloud.hub.refusals().facts()["undelivered"], json!({"n1": {"too large": 2}}));
}

#[tokio::test]
async fn a_message_in_fragments_with_an_empty_end_is_one_message() {
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let mut cloud = Cloud::start();
    let mut client = raw(&cloud, "n1").await;
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    let text = encode_up(&query("c")).unwrap().encode();
    let first = Frame::message(text, OpCode::Data(Data::Text), false);
    let last = Frame::message("", OpCode::Data(Data::Continue), true);
    for frame in [first, last] {
        client.send(Message::Frame(frame)).await.unwrap();
    }
    assert_eq!(cloud.question().await.1.up, query("c"));
}

#[tokio::test]
async fn silence_ends_a_session() {
    let mut cloud = Cloud::start_with(Duration::from_secs(3));
    let (mut writer, mut reader) = cloud.client(&cloud.identity("n1"), "n1").await.unwrap();
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    for _ in 0..4 {
        // Together longer than the cloud waits for one of them.
        tokio::time::sleep(Duration::from_secs(1)).await;
        say(&mut writer, &Up::Keepalive).await;
    }
    assert!(cloud.arrivals.try_recv().is_err());
    assert!(soon(reader.next()).await.is_none());
    assert!(matches!(cloud.arrival().await, Arrival::Disconnected(_)));
}

#[tokio::test]
async fn the_header_must_name_the_node_of_the_certificate() {
    let cloud = Cloud::start();
    let refused = |identity: Identity, node: &'static str| {
        let cloud = &cloud;
        async move { cloud.client(&identity, node).await.err().unwrap() }
    };
    assert!(matches!(refused(cloud.identity("n1"), "n2").await, WsError::Refused(403)));
    let admin = cloud.authority.issue_client("admin", &["system:masters"], 1).unwrap();
    assert!(matches!(refused(admin, "n1").await, WsError::Refused(403)));
    let stranger = Authority::generate("KubeEdge").unwrap();
    let stranger = stranger.issue_client("system:node:n1", &["system:nodes"], 1).unwrap();
    let error = refused(stranger, "n1").await;
    assert!(matches!(error, WsError::Dial(DialError::Tls(_)) | WsError::Io(_)), "{error:?}");
    let expired = cloud
        .authority
        .issue_client_between("system:node:n1", &["system:nodes"], 1_000_000, 2_000_000)
        .unwrap();
    let error = refused(expired, "n1").await;
    assert!(matches!(error, WsError::Dial(DialError::Tls(_)) | WsError::Io(_)), "{error:?}");
}

async fn enrol(cloud: &Cloud, node: &str, token: String) -> Result<Enrolled, Failure> {
    uplink::enrol(&cloud.config(node, Some(token)).enrolment()).await
}

#[tokio::test]
async fn tokens_that_do_not_fit_are_told_apart() {
    let cloud = Cloud::start();
    let code = |result: Result<Enrolled, Failure>| result.unwrap_err().code;
    let stranger = Token::create(&Authority::generate("KubeEdge").unwrap(), DAY);
    assert_eq!(code(enrol(&cloud, "n1", stranger).await), "KE-TOKEN-001");
    let expired = Token::create(&cloud.authority, Duration::ZERO);
    assert_eq!(code(enrol(&cloud, "n1", expired).await), "KE-TOKEN-002");
    let other = cloud.tokens.create(&cloud.authority, DAY, None, Some("n2")).unwrap();
    let failure = enrol(&cloud, "n1", other).await.unwrap_err();
    assert_eq!(failure.code, "KE-TOKEN-003");
    failure.is_as_committed();
    assert!(failure.why.contains("another node"), "{}", failure.why);
    assert_eq!(code(enrol(&cloud, "n1", "nonsense".to_owned()).await), "KE-TOKEN-004");
    let once = cloud.tokens.create(&cloud.authority, DAY, Some(1), None).unwrap();
    assert_eq!(enrol(&cloud, "n1", once.clone()).await, Ok(Enrolled::Issued));
    assert_eq!(enrol(&cloud, "n1", once.clone()).await, Ok(Enrolled::Reused));
    assert_eq!(code(enrol(&cloud, "n3", once).await), "KE-TOKEN-003");
    assert!(Path::new(&cloud.config("n1", None).files.key).exists());
}

#[tokio::test]
async fn a_link_without_cloud_says_why_and_questions_fail_at_once() {
    let cloud = Cloud::start();
    let config = cloud.config("n1", Some(Token::create(&Authority::generate("KubeEdge").unwrap(), DAY)));
    let (uplink, _inbound, module) = uplink::new(config).unwrap();
    let (stop, mut crew) = (Stop::new(), Crew::new());
    start(module, &mut crew, &stop);
    soon(uplink.info().wait_for(|info| info.code == Some("KE-TOKEN-001"))).await.unwrap();
    let asked = soon(uplink.ask(query("c"), PATIENCE)).await;
    assert_eq!(asked, Err(uplink::AskError::Offline));
}

#[tokio::test]
async fn a_name_that_another_machine_holds_is_given_by_an_operators_token_only() {
    let cloud = Cloud::start();
    let here = System::read();
    let Some(ours) = fingerprint(&here.machine_id, &here.system_uuid) else { return };
    let make = |takeover| Grant { uses: Some(1), node: Some("held".to_owned()), takeover };
    let grant = |takeover| cloud.tokens.grant(&cloud.authority, DAY, make(takeover)).unwrap();
    let plain = grant(false);
    for _ in 0..2 {
        let failure = enrol(&cloud, "held", plain.clone()).await.unwrap_err();
        assert_eq!(failure.code, "KE-DUP-001", "{failure}");
        failure.is_as_committed();
        assert!(failure.why.contains("0123456789abcdef") && failure.why.contains(&ours), "{failure}");
        assert!(failure.fix.contains("--takeover"), "{}", failure.fix);
    }
    let left: Vec<Option<u32>> = cloud.tokens.list().unwrap().values().map(|entry| entry.uses).collect();
    assert_eq!(left, [Some(1)], "a refusal uses no token up");
    assert_eq!(enrol(&cloud, "held", grant(true)).await, Ok(Enrolled::Issued));
    // An edge node that has not told its machine and is not Ready is nobody's; any other is somebody's.
    assert_eq!(enrol(&cloud, "known", cloud.token()).await, Ok(Enrolled::Issued));
    for (node, why) in [("plain", "role of an edge node"), ("kubelet", "a kubelet"), ("ready", "Ready")] {
        let failure = enrol(&cloud, node, cloud.token()).await.unwrap_err();
        assert_eq!(failure.code, "KE-DUP-001", "{failure}");
        failure.is_as_committed();
        assert!(failure.why.contains(why) && failure.fix.contains("--takeover"), "{failure}");
        let given = Grant { uses: Some(1), node: Some(node.to_owned()), takeover: true };
        let given = cloud.tokens.grant(&cloud.authority, DAY, given).unwrap();
        assert_eq!(enrol(&cloud, node, given).await, Ok(Enrolled::Issued));
    }
}

#[tokio::test]
async fn a_counter_tells_the_clock_of_the_cloud() {
    let cloud = Cloud::start();
    let counter = uplink::Counter::at(&cloud.addresses.https.to_string()).unwrap();
    counter.reach().await.unwrap();
    counter.shake_hands().await.unwrap();
    let clock = counter.look().await.unwrap().clock.unwrap();
    assert!((clock.as_second() - crate::base::now().as_second()).abs() <= 2, "{clock}");
    let nobody = uplink::Counter::at("127.0.0.1:1").unwrap();
    assert_eq!(nobody.reach().await.unwrap_err().committed().code, "KE-LINK-002");
}

#[tokio::test]
async fn the_cloud_says_whether_a_node_is_known() {
    let cloud = Cloud::start();
    let tls = client_config(&cloud.authority.cert_pem(), None).unwrap();
    let endpoint = Endpoint::parse(&cloud.addresses.https.to_string(), 0).unwrap();
    for (path, status) in [("/node/known", 200), ("/node/other", 404), ("/x", 404), ("/edge.crt", 500)] {
        let request = http::Request::get(path).body(http_body_util::Full::default()).unwrap();
        let answer = crate::link::fetch(&endpoint, tls.clone(), request, 1 << 16, PATIENCE).await;
        assert_eq!(answer.unwrap().0.as_u16(), status, "{path}");
    }
}

/// The status of the certificate service's answer, and when it says to come back. Without a certificate a token is shown.
async fn certify(
    cloud: &Cloud,
    path: &str,
    node: &str,
    shown: Option<&Identity>,
) -> (u16, Option<http::HeaderValue>) {
    let endpoint = Endpoint::parse(&cloud.addresses.https.to_string(), 0).unwrap();
    let csr = crate::pki::Request::new(&format!("system:node:{node}"), &["system:nodes"]).unwrap();
    let bearer = Token::parse(&cloud.token()).unwrap().bearer;
    let request = http::Request::get(path)
        .header("NodeName", node)
        .header(http::header::AUTHORIZATION, format!("Bearer {bearer}"))
        .body(http_body_util::Full::new(bytes::Bytes::from(csr.csr_der.clone())))
        .unwrap();
    let tls = client_config(&cloud.authority.cert_pem(), shown).unwrap();
    let answer = crate::link::fetch_whole(&endpoint, tls, request, 1 << 16, PATIENCE).await.unwrap();
    (answer.status().as_u16(), answer.headers().get(http::header::RETRY_AFTER).cloned())
}

#[tokio::test]
async fn whose_a_name_is_nobody_guesses_before_the_nodes_are_listed() {
    let cloud = Cloud::start();
    for path in ["/edge.crt", "/node/early"] {
        let (status, again) = certify(&cloud, path, "early", None).await;
        assert_eq!((status, again.unwrap().to_str().unwrap()), (503, "1"), "{path}");
    }
    // Whoever proves the key of the present certificate takes nobody's name.
    let own = cloud.identity("early");
    assert_eq!(certify(&cloud, "/edge.crt", "early", Some(&own)).await, (200, None));
}

#[tokio::test]
async fn a_certificate_that_many_share_takes_no_name_that_is_another_s() {
    let cloud = Cloud::start();
    let shared = cloud.authority.issue_client("kubeedge.io", &["KubeEdge"], 1).unwrap();
    for (node, status) in [("known", 200), ("other", 200), ("kubelet", 409), ("early", 503)] {
        assert_eq!(certify(&cloud, "/edge.crt", node, Some(&shared)).await.0, status, "{node}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let cloud = Cloud::start();
    let identity = cloud.authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
    let (_, trust) = watch::channel(Trust::new(cloud.authority.clone(), identity));
    let mut config = hub::Config::new(trust, cloud.tokens.clone());
    config.websocket = cloud.addresses.websocket;
    let failure = hub::new(config).map(|_| ()).unwrap_err();
    assert_eq!(failure.code, "KE-PORT-001");
    failure.is_as_committed();
    assert!(failure.why.contains(&cloud.addresses.websocket.port().to_string()));
}

#[tokio::test]
async fn a_slow_switchboard_slows_the_cloud_and_loses_nothing() {
    let mut cloud = Cloud::start();
    let mut edge = cloud.edge("n1").await;
    const OBJECTS: u64 = 900;
    for revision in 1..=OBJECTS {
        cloud.hub.tell(name("n1"), config_map(&format!("c{revision}"), revision)).await.unwrap();
    }
    let mut stored = 0;
    let reading = async {
        for _ in 0..OBJECTS {
            let Inbound { receipt, .. } = soon(edge.inbound.recv()).await.unwrap();
            receipt.stored();
        }
    };
    let counting = async {
        while stored < OBJECTS {
            if matches!(cloud.arrival().await, Arrival::Stored { .. }) {
                stored += 1;
            }
        }
    };
    tokio::join!(reading, counting);
    assert_eq!(stored, OBJECTS);
    let stop = cloud.stop.clone();
    stop.raise();
    let mut link = edge.uplink.link();
    soon(link.wait_for(|link| *link == Link::Down)).await.unwrap();
    assert_eq!(edge.uplink.ask(query("c"), PATIENCE).await, Err(uplink::AskError::Offline));
}

#[tokio::test]
async fn a_lost_answer_costs_only_its_question() {
    let mut cloud = Cloud::start();
    let edge = cloud.edge("n1").await;
    let limit = Duration::from_millis(100);
    assert_eq!(edge.uplink.ask(query("c"), limit).await, Err(uplink::AskError::TimedOut));
    let (node, question) = cloud.question().await;
    cloud.hub.answer(node, question, Ok(Value::Null)).await.unwrap();
    let asked = edge.uplink.ask(query("d"), PATIENCE);
    let answering = async {
        let (node, question) = cloud.question().await;
        cloud.hub.answer(node, question, Ok(json!({"metadata": {}}))).await.unwrap();
    };
    assert!(tokio::join!(asked, answering).0.is_ok());
}

#[tokio::test]
async fn a_certificate_that_ages_is_renewed_without_a_token() {
    let mut cloud = Cloud::start();
    let config = cloud.config("n1", None);
    let at = crate::base::now().as_second();
    let aged = cloud
        .authority
        .issue_client_between("system:node:n1", &["system:nodes"], at - 1000, at + 300)
        .unwrap();
    std::fs::create_dir_all(config.files.ca.parent().unwrap()).unwrap();
    std::fs::write(&config.files.ca, cloud.authority.cert_pem()).unwrap();
    std::fs::write(&config.files.cert, &aged.cert_pem).unwrap();
    std::fs::write(&config.files.key, &aged.key_pem).unwrap();
    let files = config.files.clone();
    let (_uplink, _inbound, module) = uplink::new(config).unwrap();
    let (stop, mut crew) = (Stop::new(), Crew::new());
    start(module, &mut crew, &stop);
    // Once with what it has, and again with the renewed certificate.
    for _ in 0..2 {
        while !matches!(cloud.arrival().await, Arrival::Connected(_)) {}
    }
    // It takes the former one's place once the cloud has accepted it.
    let lasting = |identity: Identity| identity.facts().unwrap().not_after > at + 300 * 86_400;
    soon(async {
        while !Identity::load(&files.cert, &files.key).is_ok_and(lasting) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_cloud_that_stops_or_is_full_says_when_to_come_back() {
    let mut cloud = Cloud::start_within(Duration::from_secs(30), 1);
    let (_writer, mut reader) = cloud.client(&cloud.identity("n1"), "n1").await.unwrap();
    assert!(matches!(cloud.arrival().await, Arrival::Connected(_)));
    let refused = cloud.client(&cloud.identity("n2"), "n2").await.err().unwrap();
    assert!(matches!(refused, WsError::Later(wait) if wait >= Duration::from_secs(30)), "{refused:?}");
    cloud.stop.raise();
    assert!(soon(reader.next()).await.is_none());
    let wait = crate::wire::read_farewell(reader.farewell().unwrap()).unwrap();
    assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&wait), "{wait:?}");
}

#[tokio::test]
async fn connections_that_never_shake_hands_keep_nobody_out() {
    let cloud = Cloud::start();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(tokio::net::TcpStream::connect(cloud.addresses.websocket).await.unwrap());
    }
    soon(cloud.client(&cloud.identity("n1"), "n1")).await.unwrap();
}

#[tokio::test]
async fn a_node_comes_back_when_the_cloud_asks_it_to() {
    let mut cloud = Cloud::start();
    let edge = cloud.edge("n1").await;
    let mut link = edge.uplink.link();
    let began = std::time::Instant::now();
    cloud.stop.raise();
    soon(link.wait_for(|link| *link == Link::Down)).await.unwrap();
    // Nothing listens any more; a node that did not heed the hint would have found that out long before.
    let mut info = edge.uplink.info();
    soon(info.wait_for(|info| info.error.is_some())).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}
