//! The digest of an installation image, as the registry that a job names has it (`imageDigestGatter.registryAPI`): asked over
//! HTTPS before the job begins, bounded in time and size. `mod` asks once per job and keeps the answer in its status. The
//! token goes to the host that the job names and nowhere else: into no log, no sentence and no order.

use crate::base::{Failure, deepest, read_limited};
use crate::host::versions::format_digest;
use crate::model::image::is_digest;
use crate::wire::upgrade::{RegistryApi, UpgradeSpec, shown};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long one answer may take, from the connection to its last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions to a registry that cannot be reached or is overloaded, and the pause between them.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// No registry has to take a longer manifest.
const MANIFEST: usize = 4 << 20;
const TOKEN: usize = 64 << 10;
const AUTHORITY: u64 = 4 << 20;
/// What an image may be; the index comes with its own digest, which is the one that runtimes know the image by.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
const DIGEST: &str = "docker-content-digest";
/// What Docker's hub is called, and where it answers.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Begins the reason of a job whose digest was asked for; the digest follows.
const NOTED: &str = "the image has the digest ";

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    api: RegistryApi,
    repository: String,
    tag: String,
}

impl Question {
    /// `None` when the job names every digest itself, or wants none.
    pub(super) fn of(upgrade: &UpgradeSpec) -> Option<Question> {
        let api = upgrade.registry.clone()?;
        let repository = upgrade.repository();
        let own = repository.strip_prefix(&api.host).and_then(|rest| rest.strip_prefix('/'));
        let repository = own.unwrap_or(repository).to_owned();
        Some(Question { api, repository, tag: upgrade.version.to_string() })
    }

    /// The image, as people write it.
    fn image(&self) -> String {
        format!("{}/{}:{}", self.api.host, self.repository, self.tag)
    }

    fn url(&self) -> String {
        let host = if self.api.host == HUB.0 { HUB.1 } else { &self.api.host };
        format!("https://{host}/v2/{}/manifests/{}", self.repository, self.tag)
    }

    /// The reason of a job with this answer, for people and for [`noted`].
    pub(super) fn note(&self, digest: &str) -> String {
        format!("{NOTED}{digest} at {}", self.api.host)
    }
}

/// The digest that a job's status keeps: all its nodes get the same one, whatever the registry says later.
pub(super) fn noted(status: &Value) -> Option<&str> {
    let reason = status.get("reason")?.as_str()?.strip_prefix(NOTED)?;
    reason.split(' ').next().filter(|digest| is_digest(digest))
}

/// Why there is no digest.
#[derive(Debug, PartialEq)]
enum Trouble {
    /// It may go well another time.
    Passing(String),
    Unusable(String),
    Refused(u16),
    Absent,
    Nonsense(String),
}

impl Trouble {
    fn told(self, question: &Question) -> Failure {
        let (host, image) = (&question.api.host, question.image());
        match self {
            Trouble::Passing(why) | Trouble::Unusable(why) => {
                Failure::new("KE-JOB-002", format!("the registry {host} cannot be asked")).because(why).fix(
                    "see that the cloud reaches it, and that its authority is the system's or kedge.registryCAFile's",
                )
            }
            Trouble::Refused(code) => {
                Failure::new("KE-JOB-003", format!("the registry {host} does not let the cloud read {image}"))
                    .because(format!("it answers {code}"))
                    .fix("write a bearer token that may pull it to imageDigestGatter.registryAPI.token")
            }
            Trouble::Absent => Failure::new("KE-JOB-004", format!("there is no {image}"))
                .because("the registry answers 404")
                .fix("push the image with the version as its tag, or correct image, version and host"),
            Trouble::Nonsense(why) => {
                Failure::new("KE-JOB-005", format!("the registry {host} names no digest of {image}"))
                    .because(why)
                    .fix("see that the host is a registry, or write the digest itself to imageDigestGatter")
            }
        }
    }
}

/// Asks; `authority` is a PEM file whose authorities count beside the system's.
pub(super) async fn digest(question: &Question, authority: Option<&Path>) -> Result<String, Failure> {
    let client = client(authority).map_err(|trouble| trouble.told(question))?;
    let mut tries = 1;
    loop {
        match ask(&client, question).await {
            Err(Trouble::Passing(_)) if tries < TRIES => tries += 1,
            answer => return answer.map_err(|trouble| trouble.told(question)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn client(authority: Option<&Path>) -> Result<Client, Trouble> {
    let unusable = |error: &dyn std::error::Error| Trouble::Unusable(deepest(error));
    let mut builder = Client::builder()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
        .user_agent(concat!("kedge/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = authority {
        let pem = read_limited(path, AUTHORITY).map_err(|failure| Trouble::Unusable(failure.to_string()))?;
        let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
        if found.is_empty() {
            return Err(Trouble::Unusable(format!("{} holds no certificate", path.display())));
        }
        builder = builder.tls_certs_merge(found);
    }
    builder.build().map_err(|error| unusable(&error))
}

async fn ask(client: &Client, question: &Question) -> Result<String, Trouble> {
    let mut token = Some(question.api.token.clone()).filter(|token| !token.is_empty());
    let mut head = send(client, Method::HEAD, question, token.as_deref()).await?;
    if head.status() == StatusCode::UNAUTHORIZED
        && token.is_none()
        && let Some(door) = door(head.headers(), &question.repository)
    {
        token = Some(anyone(client, door).await?);
        head = send(client, Method::HEAD, question, token.as_deref()).await?;
    }
    // Not every registry takes HEAD, or has the digest in its head.
    if head.status() != StatusCode::METHOD_NOT_ALLOWED {
        judge(&head)?;
        if let Some(digest) = named(head.headers())? {
            return Ok(digest);
        }
    }
    let answer = send(client, Method::GET, question, token.as_deref()).await?;
    judge(&answer)?;
    let named = named(answer.headers())?;
    let manifest = body(answer, MANIFEST).await?;
    let is_manifest = serde_json::from_slice::<Value>(&manifest)
        .is_ok_and(|manifest| manifest.get("schemaVersion").is_some_and(Value::is_u64));
    if !is_manifest {
        return Err(Trouble::Nonsense("what it sends is no manifest of an image".to_owned()));
    }
    let digest = format_digest(ring::digest::digest(&ring::digest::SHA256, &manifest).as_ref());
    match named {
        Some(named) if named != digest => {
            Err(Trouble::Nonsense(format!("it names {named}, and what it sends has {digest}")))
        }
        _ => Ok(digest),
    }
}

async fn send(
    client: &Client,
    method: Method,
    question: &Question,
    token: Option<&str>,
) -> Result<Response, Trouble> {
    let mut request = client.request(method, question.url()).header(ACCEPT, MANIFESTS);
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Trouble::Nonsense("the token that it gives is none".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.send().await.map_err(lost)
}

fn lost(error: reqwest::Error) -> Trouble {
    let within = || format!("it did not answer within {} s", PATIENCE.as_secs());
    Trouble::Passing(if error.is_timeout() { within() } else { deepest(&error) })
}

fn judge(answer: &Response) -> Result<(), Trouble> {
    match answer.status() {
        code if code.is_success() => Ok(()),
        code @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(Trouble::Refused(code.as_u16())),
        StatusCode::NOT_FOUND => Err(Trouble::Absent),
        code if code == StatusCode::TOO_MANY_REQUESTS || code.is_server_error() => {
            Err(Trouble::Passing(format!("it answers {}", code.as_u16())))
        }
        code => Err(Trouble::Nonsense(format!("it answers {}", code.as_u16()))),
    }
}

fn named(head: &HeaderMap) -> Result<Option<String>, Trouble> {
    let Some(named) = head.get(DIGEST) else { return Ok(None) };
    let text = String::from_utf8_lossy(named.as_bytes());
    let wrong = || Trouble::Nonsense(format!("it names {}, which is no digest of SHA-256", shown(&text)));
    if is_digest(&text) { Ok(Some(text.into_owned())) } else { Err(wrong()) }
}

/// Where a registry gives tokens for what anybody may read; only by HTTPS.
fn door(head: &HeaderMap, repository: &str) -> Option<Url> {
    let (scheme, fields) = head.get(WWW_AUTHENTICATE)?.to_str().ok()?.split_once(' ')?;
    let field = |name: &str| {
        let (_, rest) = fields.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let mut url = Url::parse(field("realm")?).ok()?;
    url.query_pairs_mut().append_pair("scope", &format!("repository:{repository}:pull"));
    if let Some(service) = field("service") {
        url.query_pairs_mut().append_pair("service", service);
    }
    (scheme.eq_ignore_ascii_case("bearer") && url.scheme() == "https").then_some(url)
}

/// A token for what anybody may read.
async fn anyone(client: &Client, door: Url) -> Result<String, Trouble> {
    let answer = client.get(door).send().await.map_err(lost)?;
    judge(&answer)?;
    let document: Value = serde_json::from_slice(&body(answer, TOKEN).await?).unwrap_or_default();
    let token = ["token", "access_token"].into_iter().find_map(|name| document.get(name)?.as_str());
    token.map(str::to_owned).ok_or_else(|| Trouble::Nonsense("it gives no token to anybody".to_owned()))
}

async fn body(mut answer: Response, limit: usize) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(lost)? {
        if body.len() + part.len() > limit {
            return Err(Trouble::Nonsense(format!("what it sends is longer than {} KiB", limit >> 10)));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
