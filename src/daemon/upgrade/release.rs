//! Fetches a release from the node's cloud: the node's certificate opens the door, the answer goes to disk as it comes.
//! What was fetched is trusted by its signature alone, which is checked elsewhere.

use crate::base::{Exit, Failure, random_bytes, read_limited, threads};
use crate::config::edge::EdgeConfig;
use crate::host::facts::System;
use crate::host::versions::BINARY_LIMIT;
use crate::link::{Bounds, DialError, Endpoint, FetchError, download};
use crate::model::Release;
use crate::model::image::is_digest;
use crate::pki::{Identity, client_config};
use crate::wire::upgrade::RELEASE_HEADERS;
use http::{HeaderMap, StatusCode, header};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

const BOUNDS: Bounds =
    Bounds { size: BINARY_LIMIT, total: Duration::from_secs(900), silence: Duration::from_secs(30) };
/// A cloud serves a few nodes at a time, and a fleet is larger. A job's limit of a step may be shorter: it is the cloud's.
const PACE: Pace = Pace {
    total: BOUNDS.total,
    trouble: Duration::from_secs(60),
    least: Duration::from_secs(2),
    most: Duration::from_secs(30),
};
const FILE_LIMIT: u64 = 256 << 10;

/// What came.
pub(super) struct Fetched {
    pub bytes: u64,
    /// As the cloud announced it.
    pub digest: String,
    pub signature: String,
    pub origin: String,
}

/// How long a release is asked for.
struct Pace {
    /// From the first question to the last byte, the wait for other nodes included.
    total: Duration,
    /// How long a cloud is asked again that cannot be reached or breaks off, since it has sent something.
    trouble: Duration,
    /// Bounds of a pause, whatever the cloud asks for.
    least: Duration,
    most: Duration,
}

impl Pace {
    /// The pause before the next question; nodes that were turned away together do not come back together.
    fn pause(&self, asked: Option<Duration>) -> Duration {
        let pause = asked.unwrap_or(self.least).clamp(self.least, self.most);
        pause + pause * u32::from(u8::from_le_bytes(random_bytes())) / 1024
    }
}

/// Where a release is.
struct Source {
    endpoint: Endpoint,
    tls: Arc<rustls::ClientConfig>,
    path: String,
    origin: String,
    version: Release,
}

/// Fetches to a new file. Blocking, on a runtime of its own when none is there.
pub(super) fn fetch(config: &EdgeConfig, version: &Release, to: &Path) -> Result<Fetched, Failure> {
    let work = fetch_async(config, version, to);
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.block_on(work),
        Err(_) => threads(0)?.block_on(work),
    }
}

async fn fetch_async(config: &EdgeConfig, version: &Release, to: &Path) -> Result<Fetched, Failure> {
    let hub = &config.hub;
    let endpoint = Endpoint::parse(&hub.http_server, 10002).ok_or_else(|| {
        Failure::new("KE-LINK-001", format!("the cloud's address {:?} cannot be used", hub.http_server))
            .because("it is not host:port")
            .fix("write it as https://cloud.example:10002")
            .exit(Exit::Configuration)
    })?;
    let read = |path: &Path| {
        let bytes = read_limited(path, FILE_LIMIT)?;
        Ok::<_, Failure>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let identity = Identity { cert_pem: read(&hub.cert_file)?, key_pem: read(&hub.key_file)? };
    let tls = client_config(&read(&hub.ca_file)?, Some(&identity))?;
    let path = format!("/kedge/releases/{}/{}", version.bare(), System::read().architecture);
    let origin = format!("https://{endpoint}{path}");
    Source { endpoint, tls, path, origin, version: version.clone() }.take(to, &PACE).await
}

impl Source {
    /// Asks until the release has come, from its beginning each time.
    async fn take(&self, to: &Path, pace: &Pace) -> Result<Fetched, Failure> {
        let began = Instant::now();
        let mut heard = began;
        loop {
            let mut file = tokio::fs::File::create(to).await.map_err(|error| unwritten(to, &error))?;
            let bounds = Bounds { total: pace.total.saturating_sub(began.elapsed()), ..BOUNDS };
            let head = download(&self.endpoint, self.tls.clone(), &self.path, bounds, &mut file).await;
            // What is still being written would come after the next beginning.
            drop(file.flush().await);
            let came = file.metadata().await.map_err(|error| unwritten(to, &error))?.len();
            if head.is_ok() || came > 0 {
                heard = Instant::now();
            }
            let in_time = began.elapsed() < pace.total;
            let pause = match head {
                Ok(head) if head.status == StatusCode::OK => {
                    file.sync_all().await.map_err(|error| unwritten(to, &error))?;
                    let bytes = file.metadata().await.map_err(|error| unwritten(to, &error))?.len();
                    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))
                        .map_err(|error| unwritten(to, &error))?;
                    return announced(&head.headers, bytes, self.origin.clone());
                }
                Ok(head) if head.status == StatusCode::SERVICE_UNAVAILABLE && in_time => {
                    pace.pause(retry_after(&head.headers))
                }
                Ok(head) => return Err(self.refused(head.status)),
                Err(error) if may_pass(&error) && in_time && heard.elapsed() < pace.trouble => {
                    tracing::info!(%error, "the release is asked for again");
                    pace.pause(None)
                }
                Err(error) => return Err(failed(&self.origin, &error)),
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn refused(&self, status: StatusCode) -> Failure {
        let (origin, version) = (&self.origin, self.version.bare());
        if status == StatusCode::NOT_FOUND {
            return Failure::new("KE-UPGRADE-021", format!("the cloud has no kedge {version}"))
                .because(format!("{origin} is not there"))
                .fix("put the release and its signature into the cloud's releases directory, or upgrade from a file");
        }
        Failure::new("KE-UPGRADE-021", format!("the cloud does not give kedge {version}"))
            .because(format!("{origin} answered with status {}", status.as_u16()))
            .fix("see the cloud's log")
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Whether the same question may go well another time.
fn may_pass(error: &FetchError) -> bool {
    match error {
        FetchError::Http(_) | FetchError::TimedOut => true,
        FetchError::Dial(error) => !matches!(error, DialError::Tls(_) | DialError::BadName),
        FetchError::Body | FetchError::Sink(_) => false,
    }
}

/// The headers that come with a release.
fn announced(headers: &HeaderMap, bytes: u64, origin: String) -> Result<Fetched, Failure> {
    let text = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim().to_owned()
    };
    let (digest, signature) = (text(RELEASE_HEADERS.1), text(RELEASE_HEADERS.0));
    if !is_digest(&digest) || signature.is_empty() {
        return Err(Failure::new("KE-UPGRADE-004", "the release came without signature or digest")
            .because(format!("{origin} named none in its headers"))
            .fix("sign the release in the cloud's releases directory"));
    }
    Ok(Fetched { bytes, digest, signature, origin })
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("KE-FILE-001", format!("cannot write {}", path.display()))
        .because(error)
        .fix("check that the directory exists, is writable and has free space")
}

fn failed(origin: &str, error: &FetchError) -> Failure {
    let fix = match error {
        FetchError::Dial(DialError::Tls(_)) => "check the node's certificate with: kedge doctor",
        FetchError::Body => "a release is at most 256 MiB; have the cloud's releases directory looked at",
        FetchError::Sink(_) => "free space on the file system of /var/lib/kedge",
        _ => "check the network and that the cloud runs, or upgrade from a file",
    };
    Failure::new("KE-UPGRADE-021", format!("the release cannot be fetched from {origin}"))
        .because(error)
        .fix(fix)
        .exit(Exit::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Crew, Stop};
    use crate::link::http::{Body, full, serve, stream, text};
    use crate::pki::{Authority, Clients, server_config};
    use bytes::Bytes;
    use http::{Request, Response};
    use hyper::body::Incoming;
    use std::sync::atomic::{AtomicUsize, Ordering};

    type Answer = fn() -> Response<Body>;

    const RELEASE: &[u8] = b"a release";
    const QUICK: Pace = Pace {
        total: Duration::from_secs(20),
        trouble: Duration::from_secs(10),
        least: Duration::from_millis(10),
        most: Duration::from_millis(20),
    };

    /// A cloud that gives these answers, one a request; what it is asked beyond them it has not.
    async fn cloud(answers: Vec<Answer>) -> (Source, Arc<AtomicUsize>, Crew) {
        crate::pki::install_crypto_provider();
        let authority = Authority::generate("cloud").unwrap();
        let identity = authority.issue_server("cloud", &["127.0.0.1".to_owned()], 1).unwrap();
        let tls = server_config(&identity, Clients::None).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        let handler = move |_: Request<Incoming>, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = answers.get(asked.fetch_add(1, Ordering::Relaxed)).copied();
            async move { answer.map_or_else(|| text(StatusCode::NOT_FOUND, "none"), |answer| answer()) }
        };
        let mut crew = Crew::new();
        crew.spawn(serve(listener, tls, Stop::new(), handler));
        let endpoint = Endpoint::parse(&format!("https://{address}"), 10002).unwrap();
        let tls = client_config(&authority.cert_pem(), None).unwrap();
        let (path, version) = ("/kedge/releases/1.2.3/amd64".to_owned(), Release::parse("1.2.3").unwrap());
        let origin = format!("https://{address}{path}");
        (Source { endpoint, tls, path, origin, version }, count, crew)
    }

    fn busy() -> Response<Body> {
        let mut busy = text(StatusCode::SERVICE_UNAVAILABLE, "come again");
        busy.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
        busy
    }

    fn signed(body: Body) -> Response<Body> {
        let (signature, digest) = RELEASE_HEADERS;
        Response::builder()
            .header(signature, "c2ln")
            .header(digest, format!("sha256:{}", "ab".repeat(32)))
            .header(header::CONTENT_LENGTH, RELEASE.len())
            .body(body)
            .unwrap()
    }

    fn whole() -> Response<Body> {
        signed(full(Bytes::from_static(RELEASE)))
    }

    fn broken() -> Response<Body> {
        let end = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        signed(stream(futures_util::stream::iter([Ok(Bytes::from_static(b"another")), Err(end)])))
    }

    #[tokio::test]
    async fn a_node_waits_for_its_turn_and_begins_anew_where_a_transfer_breaks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kedge");
        let mut answers = vec![busy as Answer; 40];
        answers.extend([broken as Answer, whole]);
        let (source, asked, _crew) = cloud(answers).await;
        let fetched = source.take(&file, &QUICK).await.unwrap();
        assert_eq!((fetched.bytes, fetched.signature.as_str()), (RELEASE.len() as u64, "c2ln"));
        assert_eq!(std::fs::read(&file).unwrap(), RELEASE);
        assert_eq!(asked.load(Ordering::Relaxed), 42);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_told_at_once_and_the_rest_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kedge");
        let (source, asked, _cloud) = cloud(Vec::new()).await;
        let absent = source.take(&file, &QUICK).await.err().unwrap();
        assert_eq!((absent.code, absent.what.as_str()), ("KE-UPGRADE-021", "the cloud has no kedge 1.2.3"));
        absent.is_as_committed();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let short = Pace { total: Duration::from_millis(100), ..QUICK };
        let (queue, _, _busy) = cloud(vec![busy as Answer; 1000]).await;
        let late = queue.take(&file, &short).await.err().unwrap();
        assert!(late.why.contains("503") || late.why.contains("in time"), "{late}");
        let short = Pace { trouble: Duration::from_millis(100), ..QUICK };
        let gone = Source { endpoint: Endpoint::parse("https://127.0.0.1:1", 1).unwrap(), ..source };
        let began = Instant::now();
        let away = gone.take(&file, &short).await.err().unwrap();
        assert_eq!((away.code, away.exit), ("KE-UPGRADE-021", Exit::Unreachable));
        assert!(began.elapsed() >= short.trouble);
        let stranger = client_config(&Authority::generate("other").unwrap().cert_pem(), None).unwrap();
        let began = Instant::now();
        let mistrusted = Source { tls: stranger, ..queue }.take(&file, &QUICK).await.err().unwrap();
        assert!(mistrusted.fix.contains("certificate") && began.elapsed() < QUICK.trouble, "{mistrusted}");
    }

    #[test]
    fn a_pause_is_what_the_cloud_asks_for_within_bounds() {
        let asked = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(text));
            PACE.pause(retry_after(&headers)).as_secs_f64()
        };
        for (text, least) in [("10", 10.0), ("0", 2.0), ("86400", 30.0), ("soon", 2.0), ("-1", 2.0)] {
            let pause = asked(text);
            assert!(pause >= least && pause < least * 1.25, "{text}: {pause}");
        }
    }
}
