//! Both ends of the cloud's WebSocket as a hostile party holds them: whatever bytes it likes over real TLS with real
//! certificates. Blocking, one thread.

use super::eventually;
use super::world::World;
use kedge::daemon::edge::uplink::{Enrolment, Files, enrol};
use kedge::model::NodeName;
use kedge::pki::{Authority, Clients, Identity, client_config, install_crypto_provider, server_config};
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_with_config, client::client_with_config};

const SOON: Duration = Duration::from_secs(20);

/// One end of a connection that carries envelopes.
pub struct Peer<S: Read + Write>(WebSocket<S>);

pub type Node = Peer<StreamOwned<ClientConnection, TcpStream>>;
pub type Cloud = Peer<StreamOwned<ServerConnection, TcpStream>>;

/// Messages that nobody can use: the kind that the log of the receiver names, and the text.
pub fn unusable(without_route: &'static str) -> Vec<(&'static str, String)> {
    let keys: Vec<String> = (0..10_000).map(|n| format!("\"k{n}\":{n}")).collect();
    vec![
        ("a message is not JSON", "{\"header\":".to_owned()),
        ("a message is not JSON", format!("{{\"content\":{}", "[".repeat(200_000))),
        ("a message is not JSON", "\u{0}\u{1}不是信".to_owned()),
        ("a message is not a JSON object", "[1,2]".to_owned()),
        ("a message is not a JSON object", "7".to_owned()),
        (without_route, "{\"header\":7,\"route\":[],\"content\":{\"a\":1}}".to_owned()),
        (without_route, format!("{{\"header\":{{}},{}}}", keys.join(","))),
        ("a message holds more values than allowed", format!("{{\"content\":[{}0]}}", "0,".repeat(7 << 20))),
    ]
}

/// The text of an envelope.
pub fn envelope(id: &str, group: &str, operation: &str, resource: &str, content: &Value) -> String {
    json!({
        "header": {"msg_id": id, "timestamp": 1, "resourceversion": "5"},
        "route": {"source": "edgecontroller", "group": group, "operation": operation, "resource": resource},
        "content": content,
    })
    .to_string()
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// Gets a certificate for a node as any node does.
pub fn identity(world: &World, node: &str) -> (String, Identity) {
    install_crypto_provider();
    let token = world.kedge(&["gettoken"]);
    token.assert_status(0);
    let at = |name: &str| world.dir.join(format!("{node}-{name}"));
    let files = Files { ca: at("ca.crt"), cert: at("node.crt"), key: at("node.key") };
    let wanted = Enrolment {
        node: NodeName::new(node).unwrap(),
        https: format!("https://127.0.0.1:{}", world.ports.cert),
        token: Some(token.stdout.trim().to_owned()),
        files: files.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(enrol(&wanted)).unwrap();
    (std::fs::read_to_string(&files.ca).unwrap(), Identity::load(&files.cert, &files.key).unwrap())
}

/// Connects to the hub as a node.
pub fn connect(world: &World, node: &str, identity: &(String, Identity)) -> Node {
    let headers = [("node_id", node), ("project_id", "p"), ("ConnectionUse", "msg")];
    upgrade(world.ports.hub, &format!("/p/{node}/events"), &headers, identity)
        .unwrap_or_else(|why| panic!("{why}"))
}

/// Opens a stream tunnel as a node.
pub fn tunnel(world: &World, node: &str, identity: &(String, Identity)) -> Node {
    let headers = [("SessionHostNameOverride", node), ("SessionInternalIP", "192.0.2.2")];
    upgrade(world.ports.tunnel, "/v1/kubeedge/connect", &headers, identity)
        .unwrap_or_else(|why| panic!("{why}"))
}

/// Asks a port for a WebSocket with any headers; an error is what the refusal says.
pub fn upgrade(
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    (ca_pem, identity): &(String, Identity),
) -> Result<Node, String> {
    let tls = client_config(ca_pem, Some(identity)).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let tls = ClientConnection::new(tls, "127.0.0.1".try_into().unwrap()).unwrap();
    let mut request = ClientRequestBuilder::new(format!("wss://127.0.0.1:{port}{path}").parse().unwrap());
    for (name, value) in headers {
        request = request.with_header(*name, *value);
    }
    let connected = client_with_config(request, StreamOwned::new(tls, socket), Some(config()));
    connected.map(|(socket, _)| Peer(socket)).map_err(|error| error.to_string())
}

/// A cloud of one connection at a time.
pub struct FakeCloud {
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
}

impl FakeCloud {
    /// The same cloud on another port.
    pub fn on(&self, port: u16) -> FakeCloud {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        FakeCloud { listener, tls: self.tls.clone() }
    }

    /// Listens on the world's hub port and gives the world's node a certificate.
    pub fn new(world: &World) -> FakeCloud {
        install_crypto_provider();
        let authority = Authority::generate("KubeEdge").unwrap();
        let node = authority.issue_client("system:node:edge-1", &["system:nodes"], 1).unwrap();
        write_identity(&world.data_dir(), &authority.cert_pem(), &node);
        let server = authority.issue_server("KubeEdge", &["127.0.0.1".to_owned()], 1).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", world.ports.hub)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let tls = server_config(&server, Clients::Required(&authority.cert_pem())).unwrap();
        let mut tls = rustls::ServerConfig::clone(&tls);
        tls.alpn_protocols.clear();
        FakeCloud { listener, tls: Arc::new(tls) }
    }

    /// Waits for the node.
    pub fn accept(&self) -> Cloud {
        let accepted = accept_with_config(self.accept_bytes(), Some(config()));
        Peer(accepted.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Waits for the node and leaves its request for a WebSocket unanswered.
    pub fn accept_bytes(&self) -> StreamOwned<ServerConnection, TcpStream> {
        let (socket, _) = eventually("the node connects", SOON, || self.listener.accept());
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        StreamOwned::new(ServerConnection::new(self.tls.clone()).unwrap(), socket)
    }
}

/// Puts a node's certificate where the edge daemon keeps it.
pub fn write_identity(data_dir: &Path, ca_pem: &str, node: &Identity) {
    let edge = data_dir.join("edge");
    for (name, text) in [
        ("ca/rootCA.crt", ca_pem),
        ("certs/server.crt", node.cert_pem.as_str()),
        ("certs/server.key", node.key_pem.as_str()),
    ] {
        std::fs::create_dir_all(edge.join(name).parent().unwrap()).unwrap();
        std::fs::write(edge.join(name), text).unwrap();
    }
}

impl<S: Read + Write> Peer<S> {
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// Sends one message in pieces, with a ping between them.
    #[track_caller]
    pub fn send_in_pieces(&mut self, text: &str, pieces: usize) {
        let length = text.len().div_ceil(pieces);
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(length).collect();
        for (place, chunk) in chunks.iter().enumerate() {
            let kind = if place == 0 { Data::Text } else { Data::Continue };
            let frame = Frame::message(chunk.to_vec(), OpCode::Data(kind), place + 1 == chunks.len());
            self.0.send(Message::Frame(frame)).unwrap();
            self.0.send(Message::Ping("between".into())).unwrap();
        }
    }

    /// Sends a message of any bytes, as tunnels do.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let frame = Frame::message(bytes.to_vec(), OpCode::Data(Data::Text), true);
        self.0.send(Message::Frame(frame)).is_ok()
    }

    /// Sends the head of a frame that claims this length, and a little of it; clients have a mask.
    pub fn claim(&mut self, length: u64, masked: bool) {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x81, mask | 127];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4 + 1000]);
        let stream = self.0.get_mut();
        stream.write_all(&bytes).and_then(|()| stream.flush()).unwrap();
    }

    /// The next message that is text or bytes; `None` when the connection is over.
    pub fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            let message = self.0.read().ok()?;
            if let Message::Text(_) | Message::Binary(_) = message {
                return Some(message.into_data().to_vec());
            }
        }
    }

    /// Sends more than a peer may take; it may close before it has read all of it.
    pub fn send_oversized(&mut self, bytes: usize, pieces: usize) {
        for place in 0..pieces {
            let kind = if place == 0 { Data::Text } else { Data::Continue };
            let chunk = vec![b' '; bytes / pieces];
            let frame = Frame::message(chunk, OpCode::Data(kind), place + 1 == pieces);
            if self.0.send(Message::Frame(frame)).is_err() {
                return;
            }
        }
    }

    /// Waits for the messages with these parents, in any order; returns each parent's first.
    #[track_caller]
    pub fn answers(&mut self, parents: &[&str]) -> Vec<Value> {
        let mut found: Vec<Option<Value>> = vec![None; parents.len()];
        while found.iter().any(Option::is_none) {
            let message = self.next(parents);
            let parent = message.pointer("/header/parent_msg_id").and_then(Value::as_str);
            let place = parents.iter().position(|wanted| Some(*wanted) == parent);
            if let Some(place) = place {
                found[place].get_or_insert(message);
            }
        }
        found.into_iter().flatten().collect()
    }

    /// Waits for a message about this object.
    #[track_caller]
    pub fn receive(&mut self, resource: &str) -> Value {
        loop {
            let message = self.next(&[resource]);
            if message.pointer("/route/resource").and_then(Value::as_str) == Some(resource) {
                return message;
            }
        }
    }

    #[track_caller]
    fn next(&mut self, waiting: &[&str]) -> Value {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return serde_json::from_str(text.as_str()).unwrap(),
                Ok(_) => {}
                Err(error) => panic!("waiting for {waiting:?}: {error}"),
            }
        }
    }

    /// Reads until the other side has ended the connection.
    #[track_caller]
    pub fn wait_end(&mut self) {
        use tokio_tungstenite::tungstenite::Error;
        loop {
            match self.0.read() {
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the connection is still there")
                }
                Err(_) => return,
            }
        }
    }
}
