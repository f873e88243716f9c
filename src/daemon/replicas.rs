//! Clouds and the Secrets that they share, against one embedded API: replicas that start at once, Secrets as KubeEdge
//! writes them, an operator's authority, Secrets and files that change while a cloud runs.

use super::apiserver::local::{Collection, Deletion, Local};
use super::apiserver::{self, ApiServer};
use super::cloud::{self, TokenDesk};
use super::edge::uplink::{self, Files, Link};
use super::joint::name;
use super::road::{free_port, run, soon};
use crate::base::{Crew, Failure, Stop};
use crate::config::cloud::{CloudConfig, CloudPorts};
use crate::link::{Endpoint, fetch};
use crate::pki::{Authority, Grant, Identity, Token, client_config, names_of, unverified_client_config};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

const SECRETS: Collection = Collection::of("", "secrets");
const NAMESPACES: Collection = Collection::of("", "namespaces");
const NAMESPACE: &str = "kubeedge";
const PATIENCE: Duration = Duration::from_secs(30);

/// An API without a cloud.
struct Api {
    dir: TempDir,
    local: Local,
    _running: (Stop, Crew),
}

impl Api {
    async fn open() -> Api {
        crate::pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let wanted = apiserver::Config::new(([127, 0, 0, 1], 0).into(), dir.path().join("api"));
        let server = tokio::task::spawn_blocking(move || ApiServer::open(wanted)).await.unwrap().unwrap();
        std::fs::write(dir.path().join("kubeconfig"), server.admin_kubeconfig()).unwrap();
        let local = server.local();
        let (stop, mut crew) = (Stop::new(), Crew::new());
        run(&mut crew, &stop, server.module());
        Api { dir, local, _running: (stop, crew) }
    }

    /// The configuration of a replica on this machine that also goes by another address.
    fn replica(&self, number: u8) -> CloudConfig {
        let ports = CloudPorts {
            api: 0,
            websocket: free_port(),
            https: free_port(),
            stream: free_port(),
            tunnel: free_port(),
        };
        let dir = self.dir.path().join(format!("replica-{number}"));
        let mut config = CloudConfig::for_data_dir(&dir, ports).unwrap();
        config.kubeconfig = Some(self.dir.path().join("kubeconfig"));
        config.hub.advertise = vec!["127.0.0.1".to_owned(), format!("10.0.0.{number}")];
        config
    }

    async fn secret(&self, secret: &str) -> Option<Value> {
        self.local.get(&SECRETS, Some(NAMESPACE), secret).await.ok().map(|found| (*found).clone())
    }

    async fn value(&self, secret: &str, key: &str) -> Vec<u8> {
        let found = self.secret(secret).await.unwrap_or_default();
        STANDARD.decode(found["data"][key].as_str().unwrap_or_default()).unwrap()
    }

    /// Writes a Secret as KubeEdge does.
    async fn put(&self, secret: &str, data: &[(&str, &[u8])]) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        drop(self.local.create(&NAMESPACES, namespace).await);
        let data: serde_json::Map<String, Value> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect();
        let object = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
            "metadata": {"name": secret, "namespace": NAMESPACE}});
        if self.local.create(&SECRETS, object.clone()).await.is_err() {
            self.local.update(&SECRETS, object).await.unwrap();
        }
    }

    async fn token(&self) -> String {
        let desk = TokenDesk::open(&self.dir.path().join("kubeconfig")).await.unwrap();
        desk.cluster_token().await.unwrap()
    }

    fn edge(&self, node: &str, config: &CloudConfig, token: Option<String>) -> uplink::Config {
        let file = |name: &str| self.dir.path().join(node).join(name);
        let hub = &config.hub;
        uplink::Config {
            files: Files { ca: file("ca.crt"), cert: file("node.crt"), key: file("node.key") },
            token,
            ..uplink::Config::new(name(node), hub.websocket.to_string(), hub.https.to_string())
        }
    }
}

struct Running {
    stop: Stop,
    crew: Crew,
}

/// Starts a cloud and waits until it serves.
async fn start(config: &CloudConfig) -> Running {
    let (stop, mut crew) = (Stop::new(), Crew::new());
    let (observer, mut observed) = watch::channel(None);
    let running = cloud::run(config.clone(), stop.clone(), observer);
    crew.spawn(async move { running.await.unwrap() });
    soon("the cloud's modules", async {
        let handle = observed.wait_for(Option::is_some).await.unwrap().clone();
        assert!(handle.unwrap().all_ready().await);
    })
    .await;
    Running { stop, crew }
}

impl Running {
    async fn end(mut self) {
        self.stop.raise();
        soon("the cloud's end", self.crew.finish()).await;
    }
}

/// Why a cloud does not start.
async fn refusal(config: &CloudConfig) -> Failure {
    let (observer, _observed) = watch::channel(None);
    let refused = soon("the refusal", cloud::run(config.clone(), Stop::new(), observer)).await;
    refused.unwrap_err()
}

/// Connects a node and waits for its link.
async fn connects(config: uplink::Config) {
    let (uplink, _inbound, module) = uplink::new(config).unwrap();
    let (stop, mut crew) = (Stop::new(), Crew::new());
    run(&mut crew, &stop, module);
    let mut link = uplink.link();
    // What `wait_for` returns holds a lock, so it must not be kept.
    let up = tokio::time::timeout(PATIENCE, link.wait_for(|link| *link == Link::Up)).await.is_ok();
    assert!(up, "{:?}", *uplink.info().borrow());
    stop.raise();
    crew.finish().await;
}

async fn served_ca(config: &CloudConfig) -> Vec<u8> {
    let endpoint = Endpoint::parse(&config.hub.https.to_string(), 0).unwrap();
    let request = http::Request::get("/ca.crt").body(Full::default()).unwrap();
    let tls = unverified_client_config().unwrap();
    fetch(&endpoint, tls, request, 1 << 16, PATIENCE).await.unwrap().1.to_vec()
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_share_one_authority() {
    let api = Api::open().await;
    let configs: Vec<CloudConfig> = (1..=4).map(|number| api.replica(number)).collect();
    let starting = configs.iter().map(start);
    let _clouds: Vec<Running> = futures_util::future::join_all(starting).await;
    let ca = api.value("casecret", "cadata").await;
    for config in &configs {
        assert_eq!(served_ca(config).await, ca);
    }
    // What one replica has issued the others trust, and their certificates are trusted by it.
    let token = api.token().await;
    for (number, first) in configs.iter().enumerate() {
        let node = format!("n{number}");
        uplink::enrol(&api.edge(&node, first, Some(token.clone())).enrolment()).await.unwrap();
        for config in &configs {
            connects(api.edge(&node, config, None)).await;
        }
    }
    until("one certificate names all replicas", || async {
        let names = names_of(&api.value("cloudcoresecret", "cloudcoredata").await);
        (1..=4).all(|number| names.contains(&format!("10.0.0.{number}")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_together_admit_no_more_machines_than_a_token_allows() {
    let api = Api::open().await;
    let configs = [api.replica(1), api.replica(2)];
    let _clouds: Vec<Running> = futures_util::future::join_all(configs.iter().map(start)).await;
    let desk = TokenDesk::open(&api.dir.path().join("kubeconfig")).await.unwrap();
    let grant = Grant { uses: Some(3), ..Grant::default() };
    let token = desk.create(PATIENCE * 10, grant).await.unwrap();
    let enrol = |number: usize, replica: usize| {
        let wanted = api.edge(&format!("n{number}"), &configs[replica], Some(token.clone())).enrolment();
        async move { uplink::enrol(&wanted).await }
    };
    let all = futures_util::future::join_all((0..9).map(|number| enrol(number, number % 2))).await;
    let admitted: Vec<usize> = (0..9).filter(|number| all[*number].is_ok()).collect();
    assert_eq!(admitted.len(), 3, "{all:?}");
    assert!(all.iter().filter_map(|one| one.as_ref().err()).all(|refused| refused.code == "KE-TOKEN-003"));
    // Who lost what it got asks again, wherever it likes, and takes nobody's place.
    for number in admitted {
        let files = api.edge(&format!("n{number}"), &configs[0], None).files;
        std::fs::remove_file(&files.cert).unwrap();
        std::fs::remove_file(&files.key).unwrap();
        enrol(number, (number + 1) % 2).await.unwrap();
    }
    assert_eq!(enrol(9, 0).await.unwrap_err().committed().code, "KE-TOKEN-003");
    let entry = desk.list().await.unwrap().into_values().next().unwrap();
    assert_eq!((entry.uses, entry.holders.len()), (Some(0), 3));
}

/// The authority, server certificate and node certificate as KubeEdge 1.23 makes them: names as printable strings, SEC1
/// keys, serial number 1024, an empty host name in the server's certificate, four attributes in the request of a node.
struct KubeEdge {
    ca: Vec<u8>,
    ca_key: Vec<u8>,
    server: Vec<u8>,
    server_key: Vec<u8>,
    node: Identity,
}

fn printable(attributes: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in attributes {
        name.push(kind.clone(), DnValue::PrintableString((*value).try_into().unwrap()));
    }
    name
}

/// The SEC1 form of a new key, which holds what Go's `MarshalECPrivateKey` writes.
fn sec1(key: &KeyPair) -> Vec<u8> {
    let pkcs8 = key.serialize_der();
    let inner = &pkcs8[pkcs8.len() - 109..];
    let curve = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    // Version and private number, then the curve, which PKCS#8 has outside, then the public point.
    let (number, point) = inner[2..].split_at(3 + 34);
    let mut sec1 = vec![0x30, 0x77];
    sec1.extend_from_slice(number);
    sec1.extend(curve);
    sec1.extend_from_slice(point);
    sec1
}

impl KubeEdge {
    fn new(node: &str) -> KubeEdge {
        let usages = || vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name = printable(&[(DnType::CommonName, "KubeEdge")]);
        ca.serial_number = Some(SerialNumber::from(1024));
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = usages();
        ca.key_usages.push(KeyUsagePurpose::KeyCertSign);
        ca.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::from_params(&ca, &ca_key);

        let server_key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "10.0.0.1".to_owned(), String::new()];
        let mut server = CertificateParams::new(names).unwrap();
        server.distinguished_name =
            printable(&[(DnType::OrganizationName, "KubeEdge"), (DnType::CommonName, "KubeEdge")]);
        server.key_usages = usages();
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = server.signed_by(&server_key, &issuer).unwrap();

        let node_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // The colon is no character of a printable string; Go takes UTF-8 for this one.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        params.key_usages = usages();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&node_key, &issuer).unwrap();
        let node = Identity::from_der(cert.der(), &sec1(&node_key)).unwrap();
        KubeEdge {
            ca: ca_cert.der().to_vec(),
            ca_key: sec1(&ca_key),
            server: server.der().to_vec(),
            server_key: sec1(&server_key),
            node,
        }
    }

    async fn write(&self, api: &Api) {
        api.put("casecret", &[("cadata", &self.ca), ("cakeydata", &self.ca_key)]).await;
        let server = [("cloudcoredata", &self.server[..]), ("cloudcorekeydata", &self.server_key)];
        api.put("cloudcoresecret", &server).await;
        api.put("tokensecret", &[("tokendata", b"0000.a.b.c")]).await;
    }
}

#[tokio::test]
async fn a_cluster_that_cloudcore_served_is_taken_over() {
    let api = Api::open().await;
    let upstream = KubeEdge::new("old");
    upstream.write(&api).await;
    let config = api.replica(1);
    let cloud = start(&config).await;
    assert_eq!(served_ca(&config).await, upstream.ca);
    // The Secrets are as cloudcore left them, for the way back; the token is fresh and keyed by the key's bytes.
    assert_eq!(api.value("casecret", "cadata").await, upstream.ca);
    assert_eq!(api.value("casecret", "cakeydata").await, upstream.ca_key);
    assert_eq!(api.value("cloudcoresecret", "cloudcoredata").await, upstream.server);
    assert_eq!(api.value("cloudcoresecret", "cloudcorekeydata").await, upstream.server_key);
    let token = String::from_utf8(api.value("tokensecret", "tokendata").await).unwrap();
    let (unsigned, signature) = token.rsplit_once('.').unwrap();
    let (hash, unsigned) = unsigned.split_once('.').unwrap();
    assert_eq!(hash.len(), 64);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &upstream.ca_key);
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    ring::hmac::verify(&key, unsigned.as_bytes(), &signature).unwrap();

    // A node with cloudcore's certificate reconnects as it is, and a new one joins.
    let old = api.edge("old", &config, None);
    std::fs::create_dir_all(old.files.ca.parent().unwrap()).unwrap();
    std::fs::write(&old.files.ca, crate::pki::pem_certificate(&upstream.ca)).unwrap();
    std::fs::write(&old.files.cert, &upstream.node.cert_pem).unwrap();
    std::fs::write(&old.files.key, &upstream.node.key_pem).unwrap();
    let files = old.files.clone();
    connects(old).await;
    assert_eq!(Identity::load(&files.cert, &files.key).unwrap(), upstream.node);
    connects(api.edge("new", &config, Some(token))).await;
    cloud.end().await;

    // What it made by itself cloudcore reads in turn.
    for secret in ["casecret", "cloudcoresecret"] {
        api.local.delete(&SECRETS, Some(NAMESPACE), secret, Deletion::default()).await.unwrap();
    }
    let cloud = start(&config).await;
    for (secret, cert, key) in
        [("casecret", "cadata", "cakeydata"), ("cloudcoresecret", "cloudcoredata", "cloudcorekeydata")]
    {
        let found = api.secret(secret).await.unwrap();
        assert_eq!(found["type"], "Opaque");
        assert_eq!(found["data"].as_object().unwrap().len(), 2);
        let (cert, key) = (api.value(secret, cert).await, api.value(secret, key).await);
        assert!(x509_parser::parse_x509_certificate(&cert).unwrap().0.is_empty());
        assert_eq!((key.len(), &key[..5]), (121, &[0x30, 0x77, 0x02, 0x01, 0x01][..]));
    }
    cloud.end().await;
}

fn files(config: &CloudConfig) -> (PathBuf, PathBuf) {
    let hub = &config.hub;
    std::fs::create_dir_all(hub.ca_file.parent().unwrap()).unwrap();
    (hub.ca_file.clone(), hub.ca_key_file.clone())
}

const RSA_CERT: &str = include_str!("../pki/testdata/rsa.crt");
const RSA_KEY: &str = include_str!("../pki/testdata/rsa.key");

#[tokio::test]
async fn an_operators_authority_is_used_and_never_mixed_up_with_another() {
    let api = Api::open().await;
    let config = api.replica(1);
    let (cert, key) = files(&config);
    std::fs::write(&cert, RSA_CERT).unwrap();
    assert_eq!(refusal(&config).await.code, "KE-CLOUD-022");
    std::fs::write(&key, "nonsense").unwrap();
    assert_eq!(refusal(&config).await.code, "KE-PKI-004");
    let stranger = Authority::generate("KubeEdge").unwrap();
    std::fs::write(&cert, stranger.cert_pem()).unwrap();
    std::fs::write(&key, RSA_KEY).unwrap();
    assert_eq!(refusal(&config).await.code, "KE-PKI-008");
    assert!(api.secret("casecret").await.is_none(), "nothing was made in the meantime");

    std::fs::write(&cert, RSA_CERT).unwrap();
    let cloud = start(&config).await;
    let rsa = Authority::from_pem(RSA_CERT, RSA_KEY).unwrap();
    assert_eq!(served_ca(&config).await, rsa.cert_der());
    assert_eq!(api.value("casecret", "cadata").await, rsa.cert_der());
    assert_eq!(api.value("casecret", "cakeydata").await, rsa.key_der());
    let token = api.token().await;
    connects(api.edge("n1", &config, Some(token))).await;
    cloud.end().await;

    // Another authority in the files is an error, not a second authority.
    let other = Authority::generate("Other CA").unwrap();
    let other_key = Identity::from_der(other.cert_der(), other.key_der()).unwrap().key_pem;
    std::fs::write(&cert, other.cert_pem()).unwrap();
    std::fs::write(&key, &other_key).unwrap();
    let failure = refusal(&config).await;
    assert_eq!(failure.code, "KE-CLOUD-024");
    failure.is_as_committed();
    assert!(failure.why.contains(&rsa.hash()) && failure.why.contains(&other.hash()), "{}", failure.why);
    assert_eq!(api.value("casecret", "cadata").await, rsa.cert_der());

    // Without the files the Secret's holds, also when only its certificate lies there, as on an edge.
    std::fs::remove_file(&key).unwrap();
    std::fs::write(&cert, RSA_CERT).unwrap();
    let cloud = start(&config).await;
    assert_eq!(served_ca(&config).await, rsa.cert_der());
    connects(api.edge("n1", &config, None)).await;
    cloud.end().await;

    // With the former one behind it the change is meant.
    std::fs::write(&key, &other_key).unwrap();
    std::fs::write(&cert, other.cert_pem() + RSA_CERT).unwrap();
    let cloud = start(&config).await;
    assert_eq!(served_ca(&config).await, other.cert_der());
    assert_eq!(api.value("casecret", "cadata").await, other.cert_der());
    connects(api.edge("n2", &config, Some(api.token().await))).await;
    // A node that knows the former one only comes back as it is, renews its certificate, and still does after a restart.
    connects(api.edge("n1", &config, None)).await;
    cloud.end().await;
    let cloud = start(&config).await;
    let old = api.edge("n1", &config, None);
    uplink::enrol(&old.enrolment()).await.unwrap();
    connects(old).await;
    cloud.end().await;
    // Once more: the way from the first authority leads over both links.
    let third = Authority::generate("Other CA").unwrap();
    std::fs::write(&key, Identity::from_der(third.cert_der(), third.key_der()).unwrap().key_pem).unwrap();
    std::fs::write(&cert, third.cert_pem() + &other.cert_pem() + RSA_CERT).unwrap();
    let cloud = start(&config).await;
    assert_eq!(served_ca(&config).await, third.cert_der());
    for node in ["n1", "n2"] {
        connects(api.edge(node, &config, None)).await;
    }
    cloud.end().await;

    api.put("casecret", &[("cadata", b"nonsense"), ("cakeydata", b"nonsense")]).await;
    std::fs::remove_file(&key).unwrap();
    std::fs::remove_file(&cert).unwrap();
    assert_eq!(refusal(&config).await.code, "KE-CLOUD-023");
}

#[tokio::test]
async fn what_changes_while_the_cloud_runs_is_taken_over() {
    let api = Api::open().await;
    let config = api.replica(1);
    let cloud = start(&config).await;
    let ca = api.value("casecret", "cadata").await;
    let key = api.value("casecret", "cakeydata").await;
    let authority = Authority::from_der(&ca, &key).unwrap();
    let shows = |port: std::net::SocketAddr, der: Vec<u8>| async move {
        let tls = tokio_rustls::TlsConnector::from(unverified_client_config().unwrap());
        let socket = tokio::net::TcpStream::connect(port).await.unwrap();
        let server = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = tls.connect(server, socket).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec() == der
    };
    let nodes = [config.hub.websocket, config.hub.https, config.stream.tunnel];

    // A Secret that vanishes comes back, with the authority that nodes trust.
    api.local.delete(&SECRETS, Some(NAMESPACE), "casecret", Deletion::default()).await.unwrap();
    until("the authority is back", || async { api.secret("casecret").await.is_some() }).await;
    assert_eq!(api.value("casecret", "cadata").await, ca);

    // Another server certificate in the Secret.
    let names = ["127.0.0.1".to_owned(), "10.0.0.1".to_owned()];
    let (cert, cert_key) = authority.issue_server("KubeEdge", &names, 5).unwrap().ders().unwrap();
    api.put("cloudcoresecret", &[("cloudcoredata", &cert), ("cloudcorekeydata", &cert_key)]).await;
    for port in nodes {
        until("the Secret's certificate is shown", || shows(port, cert.clone())).await;
    }
    // One that has lived for two thirds of its life is not taken but replaced.
    let at = crate::base::now().as_second();
    let aged = authority.issue_server_between("KubeEdge", &names, at - 900, at + 100).unwrap();
    let (aged, aged_key) = aged.ders().unwrap();
    api.put("cloudcoresecret", &[("cloudcoredata", &aged), ("cloudcorekeydata", &aged_key)]).await;
    until("it is renewed", || async { api.value("cloudcoresecret", "cloudcoredata").await != aged }).await;
    let renewed = api.value("cloudcoresecret", "cloudcoredata").await;
    until("the renewed one is shown", || shows(config.hub.https, renewed.clone())).await;

    // Files go before the Secret.
    let own = authority.issue_server("KubeEdge", &names, 7).unwrap();
    std::fs::create_dir_all(config.hub.cert_file.parent().unwrap()).unwrap();
    std::fs::write(&config.hub.key_file, &own.key_pem).unwrap();
    std::fs::write(&config.hub.cert_file, &own.cert_pem).unwrap();
    let own = own.ders().unwrap().0;
    for port in nodes {
        until("the file's certificate is shown", || shows(port, own.clone())).await;
    }
    // The kubelet port has files of its own.
    let stream = Authority::load_or_create(config.stream.ca_file.parent().unwrap(), "streamCA", "x").unwrap();
    let new = stream.issue_server("KubeEdge stream", &names, 3).unwrap();
    std::fs::write(&config.stream.key_file, &new.key_pem).unwrap();
    std::fs::write(&config.stream.cert_file, &new.cert_pem).unwrap();
    let apiserver = stream.issue_client("kube-apiserver", &["system:masters"], 1).unwrap();
    let tls = client_config(&stream.cert_pem(), Some(&apiserver)).unwrap();
    let new = new.ders().unwrap().0;
    until("the kubelet port shows its new certificate", || async {
        let socket = tokio::net::TcpStream::connect(config.stream.stream).await.unwrap();
        let server = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(server, socket).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec() == new
    })
    .await;
    connects(api.edge("n1", &config, Some(api.token().await))).await;

    // A damaged file is told and changes nothing.
    std::fs::write(&config.hub.cert_file, "damaged").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(shows(config.hub.https, own.clone()).await);
    std::fs::remove_file(&config.hub.cert_file).unwrap();
    std::fs::remove_file(&config.hub.key_file).unwrap();

    // Another authority in the Secret: its nodes are let in, and the join token is its own.
    let next = Arc::new(Authority::generate("KubeEdge").unwrap());
    api.put("casecret", &[("cadata", next.cert_der()), ("cakeydata", next.key_der())]).await;
    until("the new authority is served", || async { served_ca(&config).await == next.cert_der() }).await;
    until("the token is the new authority's", || async {
        Token::parse(&api.token().await).is_ok_and(|token| token.fits(next.cert_der()))
    })
    .await;
    connects(api.edge("n2", &config, Some(api.token().await))).await;
    cloud.end().await;
}
