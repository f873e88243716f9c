//! Fetches a release from the node's cloud: the node's certificate opens the door, the answer goes to disk as it comes.
//! What was fetched is trusted by its signature alone, which is checked elsewhere.

use crate::base::{Exit, Failure, read_limited, threads};
use crate::config::edge::EdgeConfig;
use crate::host::facts::System;
use crate::host::versions::BINARY_LIMIT;
use crate::link::{Bounds, DialError, Endpoint, FetchError, download};
use crate::model::Release;
use crate::model::image::is_digest;
use crate::pki::{Identity, client_config};
use crate::wire::upgrade::RELEASE_HEADERS;
use http::StatusCode;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const BOUNDS: Bounds =
    Bounds { size: BINARY_LIMIT, total: Duration::from_secs(900), silence: Duration::from_secs(30) };
/// A cloud that serves other nodes just now is asked again.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(2);
const FILE_LIMIT: u64 = 256 << 10;

/// What came.
pub(super) struct Fetched {
    pub bytes: u64,
    /// As the cloud announced it.
    pub digest: String,
    pub signature: String,
    pub origin: String,
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
    let mut tries = 0;
    loop {
        let mut file = tokio::fs::File::create(to).await.map_err(|error| unwritten(to, &error))?;
        let head = download(&endpoint, tls.clone(), &path, BOUNDS, &mut file).await;
        let head = head.map_err(|error| failed(&origin, &error))?;
        match head.status {
            StatusCode::OK => {
                file.sync_all().await.map_err(|error| unwritten(to, &error))?;
                let bytes = file.metadata().await.map_err(|error| unwritten(to, &error))?.len();
                std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))
                    .map_err(|error| unwritten(to, &error))?;
                return announced(&head.headers, bytes, origin);
            }
            StatusCode::SERVICE_UNAVAILABLE if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            StatusCode::NOT_FOUND => {
                return Err(Failure::new("KE-UPGRADE-021", format!("the cloud has no kedge {}", version.bare()))
                    .because(format!("{origin} is not there"))
                    .fix("put the release and its signature into the cloud's releases directory, or upgrade from a file"));
            }
            status => {
                return Err(Failure::new(
                    "KE-UPGRADE-021",
                    format!("the cloud does not give kedge {}", version.bare()),
                )
                .because(format!("{origin} answered with status {}", status.as_u16()))
                .fix("see the cloud's log"));
            }
        }
    }
}

/// The headers that come with a release.
fn announced(headers: &http::HeaderMap, bytes: u64, origin: String) -> Result<Fetched, Failure> {
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
