//! Binaries that nodes upgrade to: `GET /kedge/releases/{version}/{architecture}` for node certificates, with signature and
//! digest in headers. The cloud's own binary when it is the one that is asked for, otherwise a file of the releases
//! directory. Names are parsed, never joined as they come; nothing is served without a signature beside it.

use super::authz;
use crate::link::http::{Body, Caller, stream, text};
use crate::model::{NodeName, Release};
use crate::wire::upgrade::RELEASE_HEADERS;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use ring::digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

const PREFIX: &str = "/kedge/releases/";
/// Transfers at a time; a fleet takes turns.
const AT_ONCE: usize = 16;
/// A transfer that lasts longer no longer counts as one, so that stalled readers do not shut others out.
const LONGEST: Duration = Duration::from_secs(900);
const PIECE: usize = 256 << 10;
/// No binary is larger, and no signature.
const LIMIT: u64 = 1 << 30;
const SIGNATURE_LIMIT: u64 = 4096;
/// Digests that are kept; a fleet upgrades to one or two.
const DIGESTS: usize = 16;
/// Go's names of architectures, as Kubernetes has them, and Rust's.
const ARCHITECTURES: [(&str, &str); 6] = [
    ("amd64", "x86_64"),
    ("arm64", "aarch64"),
    ("arm", "arm"),
    ("riscv64", "riscv64"),
    ("ppc64le", "powerpc64"),
    ("s390x", "s390x"),
];

/// The desk at which releases are handed out; cheap to clone.
#[derive(Clone, Default)]
pub struct Releases(Arc<Desk>);

#[derive(Default)]
struct Desk {
    served: AtomicU64,
    refused: AtomicU64,
    missing: AtomicU64,
    /// Since when a node is being served; one transfer a node.
    active: Mutex<BTreeMap<NodeName, Instant>>,
    digests: Mutex<BTreeMap<(u64, u64, u64, i64), String>>,
}

/// Ends with the response's body.
struct Turn {
    desk: Arc<Desk>,
    node: NodeName,
    began: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut active = self.desk.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.get(&self.node) == Some(&self.began) {
            active.remove(&self.node);
        }
    }
}

/// A file that may be sent.
struct Parcel {
    file: File,
    length: u64,
    signature: String,
    digest: String,
}

/// What a path asks for: version and architecture as they were written; `None` for any other path.
pub(super) fn asked(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix(PREFIX)?.split_once('/').filter(|(_, architecture)| !architecture.contains('/'))
}

impl Releases {
    /// Numbers for `kedge status`.
    pub fn facts(&self) -> Value {
        let active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner).len();
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({"active": active, "served": number(&self.0.served), "missing": number(&self.0.missing),
            "refused": number(&self.0.refused)})
    }

    /// Answers a node.
    pub(super) async fn hand_out(
        &self,
        dir: PathBuf,
        (version, architecture): (&str, &str),
        caller: &Caller,
    ) -> Response<Body> {
        let Some(node) = caller.peer.as_ref().and_then(authz::node_of) else {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return text(StatusCode::UNAUTHORIZED, "a node's client certificate is needed");
        };
        let known = ARCHITECTURES.iter().find(|(go, rust)| [*go, *rust].contains(&architecture));
        let (Some(release), Some((go, rust))) = (Release::parse(version), known.copied()) else {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return text(
                StatusCode::BAD_REQUEST,
                "write /kedge/releases/VERSION/ARCHITECTURE, such as v1.2.3/amd64",
            );
        };
        let turn = match self.turn(node.clone()) {
            Ok(turn) => turn,
            Err(why) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                let mut busy = text(StatusCode::SERVICE_UNAVAILABLE, why);
                busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
                return busy;
            }
        };
        let desk = self.0.clone();
        let wanted = release.clone();
        let found = tokio::task::spawn_blocking(move || desk.find(&dir, &wanted, (go, rust))).await;
        match found {
            Ok(Ok(parcel)) => {
                tracing::info!(%node, version = %release, architecture = go, "a release is sent to a node");
                self.0.served.fetch_add(1, Ordering::Relaxed);
                send(parcel, turn)
            }
            Ok(Err(why)) => {
                tracing::warn!(%node, version = %release, architecture = go, why, "a release cannot be sent");
                self.0.missing.fetch_add(1, Ordering::Relaxed);
                text(StatusCode::NOT_FOUND, why)
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the release cannot be read"),
        }
    }

    fn turn(&self, node: NodeName) -> Result<Turn, &'static str> {
        let began = Instant::now();
        let mut active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.retain(|_, began| began.elapsed() < LONGEST);
        if active.len() >= AT_ONCE {
            return Err("other nodes are being served: come again");
        }
        if active.contains_key(&node) {
            return Err("this node is being served already: come again");
        }
        active.insert(node.clone(), began);
        Ok(Turn { desk: self.0.clone(), node, began })
    }
}

impl Desk {
    /// Opens what is asked for; the error says what is missing.
    fn find(&self, dir: &Path, version: &Release, (go, rust): (&str, &str)) -> Result<Parcel, String> {
        let mut why = format!("there is no release {version} for {go}");
        for (version, architecture) in [
            (version.bare(), go),
            (version.to_string(), go),
            (version.bare(), rust),
            (version.to_string(), rust),
        ] {
            let path = dir.join(version).join(architecture).join("kedge");
            match File::open(&path) {
                Ok(file) => return self.parcel(file, &path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => why = format!("{} cannot be read: {error}", path.display()),
            }
        }
        if *version == own_version() && rust == std::env::consts::ARCH {
            // By this name the running file is meant, even where another lies in its place by now.
            let file = File::open("/proc/self/exe").map_err(|error| error.to_string())?;
            let path = std::env::current_exe().map_err(|error| error.to_string())?;
            return self.parcel(file, &path);
        }
        Err(format!("{why}: put it below {}/{}/{go}", dir.display(), version.bare()))
    }

    fn parcel(&self, mut file: File, path: &Path) -> Result<Parcel, String> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".sig");
        let beside = PathBuf::from(beside);
        let mut signature = String::new();
        let read =
            File::open(&beside).and_then(|sig| sig.take(SIGNATURE_LIMIT).read_to_string(&mut signature));
        read.map_err(|_| {
            format!(
                "{} has no signature: sign it to {}, or nodes would refuse it",
                path.display(),
                beside.display()
            )
        })?;
        let signature: String = signature.split_whitespace().collect();
        let broken = |error: io::Error| format!("{} cannot be read: {error}", path.display());
        let facts = file.metadata().map_err(broken)?;
        if !facts.is_file() || facts.len() == 0 || facts.len() > LIMIT {
            return Err(format!("{} is no binary: a file of up to 1 GiB is", path.display()));
        }
        if HeaderValue::from_str(&signature).is_err() || signature.is_empty() {
            return Err(format!("{} is no signature in base64", beside.display()));
        }
        let key = (
            facts.dev(),
            facts.ino(),
            facts.len(),
            facts.mtime_nsec() ^ facts.mtime().wrapping_mul(1_000_000_000),
        );
        let known = self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let digest = match known {
            Some(digest) => digest,
            None => {
                let digest = hash(&mut file).map_err(broken)?;
                file.rewind().map_err(broken)?;
                let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
                if digests.len() >= DIGESTS {
                    digests.clear();
                }
                digests.insert(key, digest.clone());
                digest
            }
        };
        Ok(Parcel { file, length: facts.len(), signature, digest })
    }
}

fn own_version() -> Release {
    Release::parse(env!("CARGO_PKG_VERSION")).expect("invariant: the package's version is one")
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => context.update(piece.get(..length).unwrap_or_default()),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The file in pieces as the reader takes them; never more than its length was.
fn send(parcel: Parcel, turn: Turn) -> Response<Body> {
    let Parcel { file, length, signature, digest } = parcel;
    let file = tokio::fs::File::from_std(file).take(length);
    let pieces = futures_util::stream::unfold((file, turn), |(mut file, turn)| async move {
        if turn.began.elapsed() > LONGEST {
            let late = io::Error::new(io::ErrorKind::TimedOut, "the release was not taken in time");
            return Some((Err(late), (file, turn)));
        }
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Bytes::from(piece)), (file, turn)))
            }
            Err(error) => Some((Err(error), (file, turn))),
        }
    });
    let mut response = Response::new(stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let (signed, hashed) = RELEASE_HEADERS;
    for (name, value) in [(signed, signature), (hashed, format!("sha256:{digest}"))] {
        // Both were checked to be plain text.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Peer;
    use http_body_util::BodyExt;

    fn node(name: &str) -> Caller {
        let peer = Peer {
            common_name: format!("system:node:{name}"),
            organizations: vec!["system:nodes".to_owned()],
        };
        Caller { remote: "127.0.0.1:1".parse().unwrap(), peer: Some(peer), cert_der: None }
    }

    fn shelf(version: &str, content: &[u8], signature: Option<&str>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(version).join("amd64");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("kedge"), content).unwrap();
        if let Some(signature) = signature {
            std::fs::write(place.join("kedge.sig"), signature).unwrap();
        }
        dir
    }

    async fn said(response: Response<Body>) -> (u16, String) {
        let code = response.status().as_u16();
        (
            code,
            String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned(),
        )
    }

    #[test]
    fn paths_are_read_to_the_letter() {
        assert_eq!(asked("/kedge/releases/v1.2.3/amd64"), Some(("v1.2.3", "amd64")));
        for other in
            ["/kedge/releases/", "/kedge/releases/v1.2.3", "/kedge/releases/a/b/c", "/kedge/release/a/b", "/"]
        {
            assert_eq!(asked(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_release_is_sent_with_its_signature_and_digest() {
        let content = vec![7; PIECE * 2 + 5];
        for version in ["1.2.3", "v1.2.3"] {
            let dir = shelf(version, &content, Some("c2ln\nbmF0dXJl\n"));
            let desk = Releases::default();
            for asked in [("v1.2.3", "amd64"), ("1.2.3", "x86_64")] {
                let sent = desk.hand_out(dir.path().to_owned(), asked, &node("n")).await;
                assert_eq!(sent.status(), 200);
                assert_eq!(sent.headers()["kedge-signature"], "c2lnbmF0dXJl");
                assert_eq!(sent.headers()["content-length"], content.len().to_string().as_str());
                let expected: String = digest::digest(&digest::SHA256, &content)
                    .as_ref()
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect();
                assert_eq!(sent.headers()["kedge-digest"], format!("sha256:{expected}").as_str());
                assert_eq!(sent.into_body().collect().await.unwrap().to_bytes(), content);
            }
            assert_eq!(desk.facts(), json!({"active": 0, "served": 2, "missing": 0, "refused": 0}));
        }
    }

    #[tokio::test]
    async fn what_is_missing_unsigned_or_no_version_is_said() {
        let dir = shelf("1.2.3", b"binary", None);
        let desk = Releases::default();
        let ask = async |version: &str, architecture: &str| {
            said(desk.hand_out(dir.path().to_owned(), (version, architecture), &node("n")).await).await
        };
        let (code, why) = ask("v1.2.3", "amd64").await;
        assert!(code == 404 && why.contains("no signature"), "{why}");
        let (code, why) = ask("v9.9.9", "arm64").await;
        assert!(code == 404 && why.contains("9.9.9/arm64"), "{why}");
        // This program itself is no signed release here.
        let (code, why) = ask(env!("CARGO_PKG_VERSION"), std::env::consts::ARCH).await;
        assert!(code == 404 && why.contains("no signature"), "{why}");
        for (version, architecture) in [
            ("..", "amd64"),
            ("1.2.3", ".."),
            ("1.2.3;x", "amd64"),
            ("%2e%2e", "amd64"),
            ("1.2.3", "amd64\0"),
            ("", ""),
        ] {
            assert_eq!(ask(version, architecture).await.0, 400, "{version}/{architecture}");
        }
        let nobody = Caller { peer: None, ..node("n") };
        let refused = desk.hand_out(dir.path().to_owned(), ("1.2.3", "amd64"), &nobody).await;
        assert_eq!(refused.status(), 401);
        assert_eq!(desk.facts()["missing"], 3);
    }

    #[tokio::test]
    async fn nodes_take_turns() {
        let dir = shelf("1.2.3", b"binary", Some("c2ln"));
        let desk = Releases::default();
        let ask = async |node_name: String| {
            desk.hand_out(dir.path().to_owned(), ("1.2.3", "amd64"), &node(&node_name)).await
        };
        let mut held = Vec::new();
        for n in 0..AT_ONCE {
            held.push(ask(format!("n{n}")).await);
            assert_eq!(held.last().unwrap().status(), 200);
        }
        let busy = ask("late".to_owned()).await;
        assert_eq!((busy.status().as_u16(), busy.headers().contains_key("retry-after")), (503, true));
        held.pop();
        assert_eq!(ask("n0".to_owned()).await.status(), 503);
        assert_eq!(ask("late".to_owned()).await.status(), 200);
    }
}
