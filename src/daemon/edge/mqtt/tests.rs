//! The broker from the outside: raw bytes over TCP, as a client or a stranger would send them.

use super::*;
use crate::base::{Exit, Ready};
use bytes::BytesMut;
use codec::{Level, Outbound, PublishHead};
use rumqttd::protocol::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Running {
    broker: Broker,
    address: SocketAddr,
    stop: Stop,
    _crew: Crew,
}

async fn start(connections: usize) -> Running {
    start_with(Config { connections, ..Config::default() }).await
}

async fn start_with(config: Config) -> Running {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let (broker, mut module) = new(Config { listen, ..config });
    let stop = Stop::new();
    let mut crew = Crew::new();
    let inner = stop.clone();
    crew.spawn(async move {
        module.run(inner, Ready::detached("mqtt")).await.unwrap();
    });
    let mut addresses = broker.addresses();
    let address = addresses.wait_for(|all| !all.is_empty()).await.unwrap()[0];
    Running { broker, address, stop, _crew: crew }
}

struct Client {
    stream: TcpStream,
    input: BytesMut,
    level: Level,
}

fn connect_bytes(level: u8, name: &str, clean: bool, keep_alive: u16) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend([level, u8::from(clean) << 1]);
    body.extend(keep_alive.to_be_bytes());
    if level == 5 {
        body.push(0);
    }
    body.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
    body.extend(name.as_bytes());
    framed(0x10, &body)
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let byte = u8::try_from(left % 128).unwrap();
        left /= 128;
        bytes.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

fn filter_packet(first: u8, level: Level, filter: &str, qos: Option<u8>) -> Vec<u8> {
    let mut body = vec![0, 9];
    if level == Level::V5 {
        body.push(0);
    }
    body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
    body.extend(filter.as_bytes());
    body.extend(qos);
    framed(first, &body)
}

impl Client {
    async fn raw(running: &Running) -> Client {
        let stream = TcpStream::connect(running.address).await.unwrap();
        Client { stream, input: BytesMut::new(), level: Level::V311 }
    }

    async fn connect(running: &Running, level: Level, name: &str, clean: bool) -> Client {
        let mut client = Client { level, ..Client::raw(running).await };
        let number = if level == Level::V5 { 5 } else { 4 };
        client.write(&connect_bytes(number, name, clean, 0)).await;
        assert!(matches!(client.next().await, Some(Packet::ConnAck(..))), "{name}");
        client
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The codec of version 5 writes CONNACK but does not read it.
    fn connack(&mut self) -> Option<Packet> {
        let length = usize::from(*self.input.get(1)?) + 2;
        if self.level == Level::V311 || self.input[0] != 0x20 || self.input.len() < length {
            return None;
        }
        assert_eq!(self.input.split_to(length)[3], 0, "the reason code");
        let code = rumqttd::protocol::ConnectReturnCode::Success;
        Some(Packet::ConnAck(rumqttd::protocol::ConnAck { session_present: false, code }, None))
    }

    /// The next packet; `None` when the broker closed.
    async fn next(&mut self) -> Option<Packet> {
        let read = async {
            loop {
                if let Some(answer) = self.connack() {
                    return Some(answer);
                }
                if let Some((packet, _)) = codec::decode(self.level, &mut self.input, 1 << 20).unwrap() {
                    return Some(packet);
                }
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), read).await.expect("an answer in time")
    }

    async fn subscribe(&mut self, filter: &str, qos: u8) -> Packet {
        let bytes = filter_packet(0x82, self.level, filter, Some(qos));
        self.write(&bytes).await;
        self.next().await.unwrap()
    }

    async fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let head = PublishHead { qos, packet: u16::from(qos > 0) * 3 };
        let outbound = Outbound { topic, payload: &payload, head, again: false, retain, properties: None };
        let mut out = BytesMut::new();
        assert!(codec::encode_publish(self.level, outbound, &mut out));
        self.write(&out).await;
    }

    async fn receives(&mut self, topic: &str, payload: &str) {
        match self.next().await {
            Some(Packet::Publish(publish, _)) => {
                assert_eq!(
                    (&publish.topic[..], &publish.payload[..]),
                    (topic.as_bytes(), payload.as_bytes())
                );
            }
            other => panic!("{other:?}"),
        }
    }

    async fn answers_ping(&mut self) {
        self.write(&[0xc0, 0]).await;
        assert_eq!(self.next().await, Some(Packet::PingResp(rumqttd::protocol::PingResp)));
    }
}

#[tokio::test]
async fn dollar_topics_pass_between_versions_and_the_handle() {
    let running = start(10).await;
    let mut local = running.broker.subscribe(&["$hw/events/device/+/+/twin/+"]);
    let mut old = Client::connect(&running, Level::V311, "dev/1+#$", true).await;
    let mut new = Client::connect(&running, Level::V5, "new", true).await;
    old.subscribe("$hw/#", 1).await;
    let mut all = Client::connect(&running, Level::V311, "all", true).await;
    all.subscribe("#", 0).await;
    new.publish("$hw/events/device/default/t/twin/update", "x", 0, false).await;
    old.receives("$hw/events/device/default/t/twin/update", "x").await;
    let (topic, payload) = local.next().await.unwrap();
    assert_eq!((&*topic, &payload[..]), ("$hw/events/device/default/t/twin/update", &b"x"[..]));
    running.broker.publish("温度/1", "y", false).await;
    all.receives("温度/1", "y").await;
}

#[tokio::test]
async fn a_second_client_of_the_same_name_takes_over() {
    let running = start(10).await;
    let mut first = Client::connect(&running, Level::V311, "same", true).await;
    let mut second = Client::connect(&running, Level::V5, "same", true).await;
    assert_eq!(first.next().await, None);
    second.answers_ping().await;
    assert_eq!(running.broker.stats().connections, 1);
}

#[tokio::test]
async fn one_connection_more_than_the_limit_is_closed() {
    let running = start(2).await;
    let mut held = [
        Client::connect(&running, Level::V311, "a", true).await,
        Client::connect(&running, Level::V311, "b", true).await,
    ];
    let mut third = Client::raw(&running).await;
    drop(third.stream.write_all(&connect_bytes(4, "c", true, 0)).await);
    assert_eq!(third.next().await, None);
    held[0].answers_ping().await;
}

#[tokio::test]
async fn packets_cut_at_every_byte_close_only_themselves() {
    let running = start(100).await;
    let mut witness = Client::connect(&running, Level::V311, "witness", true).await;
    let mut bytes = connect_bytes(4, "cut", true, 0);
    bytes.extend(filter_packet(0x82, Level::V311, "a/#", Some(1)));
    bytes.extend(framed(0x32, b"\0\x01a\0\x07payload"));
    for cut in 1..bytes.len() {
        let mut client = Client::raw(&running).await;
        client.write(&bytes[..cut]).await;
        drop(client);
    }
    for first in 0..=255u8 {
        let mut client = Client::connect(&running, Level::V5, &format!("g{first}"), true).await;
        drop(client.stream.write_all(&framed(first, &[0, 1, 0xff, 0xff, 0])).await);
    }
    witness.answers_ping().await;
}

#[tokio::test]
async fn old_versions_and_huge_packets_are_refused() {
    let running = start(10).await;
    let mut old = Client::raw(&running).await;
    old.write(&framed(0x10, b"\0\x06MQIsdp\x03\x02\0\0\0\x01a")).await;
    assert!(matches!(old.next().await, Some(Packet::ConnAck(..))));
    assert_eq!(old.next().await, None);
    let mut huge = Client::connect(&running, Level::V5, "huge", true).await;
    huge.write(b"\x30\xff\xff\xff\x7f").await;
    assert!(matches!(huge.next().await, Some(Packet::Disconnect(..))));
    assert_eq!(huge.next().await, None);
}

#[tokio::test]
async fn unknown_filters_are_unsubscribed_with_an_answer() {
    let running = start(10).await;
    let mut client = Client::connect(&running, Level::V311, "u", true).await;
    client.write(&filter_packet(0xa2, Level::V311, "never/seen", None)).await;
    assert!(matches!(client.next().await, Some(Packet::UnsubAck(..))));
}

#[tokio::test]
async fn fresh_filters_leave_nothing_behind_and_are_capped() {
    let running = start(10).await;
    let mut client = Client::connect(&running, Level::V311, "f", true).await;
    for n in 0..3000 {
        client.subscribe(&format!("fresh/{n}"), 0).await;
        client.write(&filter_packet(0xa2, Level::V311, &format!("fresh/{n}"), None)).await;
        client.next().await;
    }
    assert_eq!(running.broker.stats().subscriptions, 0);
    let mut refused = 0;
    for n in 0..600 {
        let Packet::SubAck(ack, _) = client.subscribe(&format!("kept/{n}"), 0).await else { panic!() };
        refused += usize::from(ack.return_codes[0] == rumqttd::protocol::SubscribeReasonCode::Failure);
    }
    assert_eq!(refused, 600 - 512);
}

#[tokio::test]
async fn a_hundred_thousand_messages_without_a_reader_are_bounded() {
    let running = start(10).await;
    let mut dead = Client::connect(&running, Level::V311, "dead", true).await;
    dead.subscribe("flood/#", 1).await;
    let mut live = Client::connect(&running, Level::V311, "live", true).await;
    live.subscribe("other", 0).await;
    let payload = Bytes::from(vec![b'x'; 256]);
    for _ in 0..100_000 {
        running.broker.publish("flood/a", payload.clone(), false).await;
    }
    assert!(running.broker.stats().dropped > 50_000);
    running.broker.publish("other", "still here", false).await;
    live.receives("other", "still here").await;
}

#[tokio::test]
async fn an_in_process_reader_misses_nothing() {
    let running = start(10).await;
    let mut local = running.broker.subscribe(&["n/#"]);
    let broker = running.broker.clone();
    let mut crew = Crew::new();
    crew.spawn(async move {
        for n in 0..20_000u32 {
            broker.publish("n/a", n.to_string(), false).await;
        }
    });
    for n in 0..20_000u32 {
        assert_eq!(local.next().await.unwrap().1, n.to_string());
    }
}

#[tokio::test]
async fn retained_messages_wait_for_subscribers_until_cleared() {
    let running = start(10).await;
    let mut client = Client::connect(&running, Level::V311, "r", true).await;
    client.publish("state/a", "kept", 0, true).await;
    client.answers_ping().await;
    client.subscribe("state/+", 0).await;
    client.receives("state/a", "kept").await;
    client.publish("state/a", "", 0, true).await;
    client.receives("state/a", "").await;
    assert_eq!(running.broker.stats().retained, 0);
}

#[tokio::test]
async fn a_lost_client_leaves_its_will_and_a_polite_one_does_not() {
    let running = start(10).await;
    let mut local = running.broker.subscribe(&["will/#"]);
    let body = |name: &str| {
        let mut body = b"\0\x04MQTT\x04\x06\0\0".to_vec();
        body.extend([0, 1, name.as_bytes()[0]]);
        body.extend(b"\0\x06will/");
        body.extend(name.as_bytes());
        body.extend(b"\0\x04gone");
        framed(0x10, &body)
    };
    let mut polite = Client::raw(&running).await;
    polite.write(&body("p")).await;
    polite.next().await;
    polite.write(&[0xe0, 0]).await;
    assert_eq!(polite.next().await, None);
    let mut lost = Client::raw(&running).await;
    lost.write(&body("l")).await;
    lost.next().await;
    drop(lost);
    let (topic, payload) = local.next().await.unwrap();
    assert_eq!((&*topic, &payload[..]), ("will/l", &b"gone"[..]));
}

#[tokio::test]
async fn a_session_without_clean_gets_what_it_missed() {
    let running = start(10).await;
    let mut client = Client::connect(&running, Level::V311, "persistent", false).await;
    client.subscribe("$share/g/jobs", 1).await;
    drop(client);
    while running.broker.stats().connections > 0 {
        tokio::task::yield_now().await;
    }
    running.broker.publish("jobs", "one", false).await;
    let mut client = Client::connect(&running, Level::V311, "persistent", false).await;
    client.receives("jobs", "one").await;
}

#[tokio::test]
async fn a_shared_group_takes_turns() {
    let running = start(10).await;
    let mut members = [
        Client::connect(&running, Level::V5, "m1", true).await,
        Client::connect(&running, Level::V311, "m2", true).await,
    ];
    for member in &mut members {
        member.subscribe("$share/g/t", 0).await;
    }
    running.broker.publish("t", "1", false).await;
    running.broker.publish("t", "2", false).await;
    for member in &mut members {
        assert!(matches!(member.next().await, Some(Packet::Publish(..))));
    }
}

#[tokio::test]
async fn silence_beyond_the_keepalive_ends_the_connection() {
    let running = start(10).await;
    let mut client = Client::raw(&running).await;
    client.write(&connect_bytes(4, "quiet", true, 1)).await;
    client.next().await;
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn the_broker_stops_and_its_port_is_free_again() {
    let running = start(10).await;
    let mut client = Client::connect(&running, Level::V5, "c", true).await;
    running.stop.raise();
    assert!(matches!(client.next().await, Some(Packet::Disconnect(..))));
    assert_eq!(client.next().await, None);
    drop(client);
    TcpListener::bind(running.address).await.unwrap();
}

#[tokio::test]
async fn our_own_client_publishes_and_listens() {
    let running = start(10).await;
    let address = running.address.to_string();
    let mut client = super::Client::connect(&address).await.unwrap();
    client.subscribe(&["$hw/#"]).await.unwrap();
    client.publish("$hw/events/x", b"payload").await.unwrap();
    let (topic, payload) = client.next().await.unwrap();
    assert_eq!((&*topic, &payload[..]), ("$hw/events/x", &b"payload"[..]));
    assert_eq!(client.next_within(Duration::from_millis(10)).await.unwrap(), None);
    running.stop.raise();
    let failure = client.next().await.unwrap_err();
    assert_eq!((failure.code, failure.exit), ("KE-MQTT-001", Exit::Unreachable));
    failure.is_as_committed();
}

#[tokio::test]
async fn a_foreign_broker_brings_what_is_wanted_and_hears_what_the_edge_says() {
    let foreign = start(10).await;
    let external = External {
        address: foreign.address.to_string(),
        tls: None,
        login: ("kedge".to_owned(), crate::config::Hidden::new("secret")),
        sub_client: String::new(),
        pub_client: String::new(),
    };
    let near = start_with(Config { external: Some(external), packet_limit: 4096, ..Config::default() }).await;
    let mut client = Client::connect(&near, Level::V311, "near", true).await;
    client.subscribe("#", 1).await;
    let mut heard = foreign.broker.subscribe(&["said"]);
    near.broker.publish("said", "by the edge", true).await;
    assert_eq!(heard.next().await.unwrap().1, "by the edge");
    client.receives("said", "by the edge").await;

    let mut wanted = near.broker.subscribe(&["a/+"]);
    while foreign.broker.stats().subscriptions != 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    foreign.broker.publish("a/large", vec![0; 5000], false).await;
    foreign.broker.publish("a/b", "1", false).await;
    let (topic, payload) = wanted.next().await.unwrap();
    assert_eq!((&*topic, &payload[..]), ("a/b", &b"1"[..]), "the large one is passed over, the line holds");
    assert!(wanted.add("later") && !wanted.add("no/#/filter"));
    wanted.remove("a/+");
    let later = loop {
        foreign.broker.publish("a/b", "no longer wanted", false).await;
        foreign.broker.publish("later", "2", false).await;
        match tokio::time::timeout(Duration::from_millis(50), wanted.next()).await {
            Ok(Some((topic, payload))) if &*topic == "later" => break payload,
            _ => {}
        }
    };
    assert_eq!(later, "2");
    client.answers_ping().await;
}

#[tokio::test]
async fn mosquitto_clients_of_both_versions_are_served() {
    let running = start(10).await;
    let port = running.address.port().to_string();
    for version in ["311", "5"] {
        let mut subscriber = tokio::process::Command::new("mosquitto_sub");
        subscriber.args([
            "-p",
            &port,
            "-V",
            version,
            "-q",
            "2",
            "-t",
            "$hw/events/#",
            "-C",
            "3",
            "-W",
            "10",
            "-v",
        ]);
        let Ok(subscriber) = subscriber.stdout(std::process::Stdio::piped()).spawn() else {
            return; // The machine has no mosquitto clients.
        };
        while running.broker.stats().subscriptions == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for qos in ["0", "1", "2"] {
            let args = ["-p", &port, "-V", version, "-q", qos, "-t", "$hw/events/x", "-m", qos];
            let status = tokio::process::Command::new("mosquitto_pub").args(args).status().await.unwrap();
            assert!(status.success());
        }
        let seen = subscriber.wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&seen.stdout), "$hw/events/x 0\n$hw/events/x 1\n$hw/events/x 2\n");
        while running.broker.stats().subscriptions > 0 {
            tokio::task::yield_now().await;
        }
    }
}
