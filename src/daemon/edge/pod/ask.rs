//! What a probe or a hook asks a container over the network: HTTP, HTTPS, gRPC's health service. `probe` asks and sets the
//! time limit. No certificate is verified and nothing that is answered is believed but the status, as with a kubelet.

use crate::base::deepest;
use crate::link::{Endpoint, dial};
use crate::pki::careless_client_config;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{self, Uri};
use tonic_prost::ProstCodec;

const AGENT: &str = "kube-probe/1.32";
/// Longer than any probe has; its own limit ends it before.
const HANDSHAKE: Duration = Duration::from_secs(3600);
/// A status is a few bytes.
const ANSWER_LIMIT: usize = 64 << 10;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; the status is 0 unknown, 1 serving, 2 not serving, 3 service unknown.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Whether somebody listens.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|error| format!("{host}:{port}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// A GET; any status from 200 to 399 is success.
pub(super) async fn http_get(host: &str, port: u16, action: &HTTPGetAction) -> Result<(), String> {
    let request = request(host, port, action)?;
    let secured = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("HTTPS"));
    let stream: Box<dyn Socket> =
        if secured { Box::new(shake_hands(host, port).await?) } else { Box::new(connect(host, port).await?) };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if (200..400).contains(&status.as_u16()) {
            Ok(())
        } else {
            Err(format!("HTTP status {}", status.as_u16()))
        }
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        // The server may close together with its answer, which is then on its way to us already.
        _ = connection => exchange.await,
    }
}

async fn shake_hands(host: &str, port: u16) -> Result<TlsStream<TcpStream>, String> {
    let endpoint = Endpoint { host: host.to_owned(), port };
    let tls = careless_client_config().map_err(|failure| failure.to_string())?;
    dial(&endpoint, tls, HANDSHAKE).await.map_err(|error| format!("{endpoint}: {error}"))
}

fn request(host: &str, port: u16, action: &HTTPGetAction) -> Result<Request<Empty<Bytes>>, String> {
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path).header("User-Agent", AGENT).header("Accept", "*/*");
    let headers = action.http_headers.iter().flatten();
    let mut named_host = false;
    for header in headers {
        named_host |= header.name.eq_ignore_ascii_case("host");
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    if !named_host {
        request = request.header("Host", format!("{host}:{port}"));
    }
    request.body(Empty::new()).map_err(|error| error.to_string())
}

/// Asks gRPC's health service for one service, or for the whole server when the name is empty.
pub(super) async fn grpc(host: &str, port: u16, service: &str) -> Result<(), String> {
    let endpoint = Endpoint { host: host.to_owned(), port };
    let server = transport::Endpoint::from_shared(format!("http://{endpoint}"))
        .and_then(|server| server.user_agent(AGENT))
        .map_err(|error| deepest(&error))?;
    let connector = tower::service_fn(move |_: Uri| {
        let host = endpoint.host.clone();
        async move { connect(&host, port).await.map(TokioIo::new) }
    });
    let channel = server.connect_with_connector(connector).await.map_err(|error| deepest(&error))?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_LIMIT);
    grpc.ready().await.map_err(|error| deepest(&error))?;
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let answer = grpc.unary(request, path, codec).await;
    let answer = answer.map_err(|status| format!("the health service: {}", deepest(&status)))?;
    match answer.into_inner().status {
        SERVING => Ok(()),
        status => Err(format!("the health service says status {status}, which is not SERVING")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Crew;
    use crate::pki::{Authority, Clients, server_config};
    use http::{HeaderMap, HeaderValue, Response};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper_util::rt::TokioExecutor;
    use prost::Message;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_status_decides_behind_a_certificate_of_nobody_too() {
        let authority = Authority::generate("of nobody").unwrap();
        let identity = authority.issue_server("elsewhere", &["elsewhere".to_owned()], 1).unwrap();
        let acceptor = TlsAcceptor::from(server_config(&identity, Clients::None).unwrap());
        let (listener, port) = listener().await;
        let mut crew = Crew::new();
        crew.spawn(async move {
            for status in ["200 OK", "500 Bad"] {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut buffer = [0; 512];
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(buffer[..read].starts_with(b"GET /healthz HTTP/1.1"));
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                drop(stream.shutdown().await);
            }
        });
        let action = HTTPGetAction {
            scheme: Some("HTTPS".to_owned()),
            path: Some("/healthz".to_owned()),
            ..HTTPGetAction::default()
        };
        assert_eq!(http_get("127.0.0.1", port, &action).await, Ok(()));
        assert_eq!(http_get("127.0.0.1", port, &action).await, Err("HTTP status 500".to_owned()));
    }

    /// A health service that knows the service `up` and the server as a whole.
    async fn serve_health(listener: TcpListener) {
        let mut crew = Crew::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let framed = request.into_body().collect().await.unwrap().to_bytes();
                let asked = HealthCheckRequest::decode(framed.slice(5..)).unwrap();
                let serves = matches!(asked.service.as_str(), "" | "up");
                let answer = HealthCheckResponse { status: if serves { SERVING } else { 2 } }.encode_to_vec();
                // Not compressed, and four bytes of length.
                let mut body = vec![0, 0, 0, 0, u8::try_from(answer.len()).unwrap()];
                body.extend(answer);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let body = Full::new(Bytes::from(body)).with_trailers(async move { Some(Ok(trailers)) });
                Response::builder().header("content-type", "application/grpc").body(body)
            });
            crew.spawn(async move {
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(serving.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    }

    #[tokio::test]
    async fn the_health_service_decides_and_not_its_port() {
        let (listener, port) = listener().await;
        let mut crew = Crew::new();
        crew.spawn(serve_health(listener));
        assert_eq!(grpc("127.0.0.1", port, "up").await, Ok(()));
        assert_eq!(grpc("127.0.0.1", port, "").await, Ok(()));
        let complaint = grpc("127.0.0.1", port, "down").await.unwrap_err();
        assert!(complaint.contains("not SERVING"), "{complaint}");
    }

    #[tokio::test]
    async fn a_port_where_nobody_speaks_grpc_is_no_success() {
        let (listener, port) = listener().await;
        let asked = tokio::time::timeout(Duration::from_millis(300), grpc("127.0.0.1", port, ""));
        assert!(!matches!(asked.await, Ok(Ok(()))), "a port that says nothing");
        drop(listener);
        let complaint = grpc("127.0.0.1", port, "").await.unwrap_err();
        assert!(complaint.contains(&port.to_string()), "{complaint}");
    }
}
