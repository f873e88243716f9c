//! Join tokens between the API and this daemon: renews KubeEdge's token in time, and makes the local book follow the
//! Secret `kedge-tokens`, which `kedge token` writes. The functions at the end serve those commands.

use super::control::watch_ended;
use super::hub::{Counting, Trust};
use super::kubernetes::{Event, Kube, Resource, Scope, follow, meta};
use super::trust::{self, NAMESPACE, blocking};
use crate::base::{Backoff, BoxFuture, Crew, Exit, Failure, Module, Ready, Stop};
use crate::config::Loaded;
use crate::config::cloud::CloudConfig;
use crate::model::Status;
use crate::pki::{Grant, TokenBook, TokenEntry, TokenError, mint};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

pub(super) const SECRET: &str = "kedge-tokens";
const KEY: &str = "tokens.json";
const SELECTOR: &str = "fieldSelector=metadata.name%3Dkedge-tokens";
const CONFLICTS: usize = 10;
/// Replicas that count uses at the same time get in each other's way; a pause that differs lets one go first.
const COUNTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(5);
/// A node waits half a minute for its certificate.
const COUNT_LIMIT: Duration = Duration::from_secs(20);

type Entries = BTreeMap<String, TokenEntry>;

pub(super) struct Tokens {
    pub kube: Kube,
    pub trust: watch::Receiver<Trust>,
    pub book: TokenBook,
    pub refresh: Duration,
}

impl Module for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut crew = Crew::new();
            let (sender, mut events) = mpsc::channel(4);
            let kube = self.kube.clone();
            let scope = Scope { resource: Resource::SECRET, selector: SELECTOR };
            crew.spawn(async move { drop(follow(kube, scope, sender).await) });
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
            let mut due = Instant::now();
            let mut copy = LocalCopy::of(self.book.clone());
            let mut trust = self.trust.clone();
            loop {
                tokio::select! {
                    biased;
                    () = stop.raised() => return Ok(()),
                    event = events.recv() => match event {
                        Some(Event::Applied { object, .. }) => copy.take(published(&object, false)).await,
                        Some(Event::Deleted(object)) => copy.take(published(&object, true)).await,
                        Some(Event::Listing | Event::Listed) => {}
                        None => return Err(watch_ended("join tokens")),
                    },
                    () = tokio::time::sleep_until(copy.due), if copy.pending.is_some() => copy.write().await,
                    // The token names the authority and is keyed by it.
                    Ok(()) = trust.changed() => due = Instant::now(),
                    () = tokio::time::sleep_until(due) => {
                        let authority = trust.borrow_and_update().authority.clone();
                        let renewing = trust::refresh_token(&self.kube, &authority, self.refresh);
                        let Some(renewed) = stop.or(renewing).await else { return Ok(()) };
                        let wait = match renewed {
                            Ok(()) => {
                                backoff.reset();
                                ready.set();
                                self.refresh
                            }
                            Err(status) => {
                                tracing::warn!(code = status.code, reason = status.reason, "the join token could not be renewed");
                                backoff.next_wait()
                            }
                        };
                        due = Instant::now() + wait;
                    }
                }
            }
        })
    }
}

/// The tokens that a Secret publishes; `None` where nothing can be learnt from it.
fn published(secret: &Value, deleted: bool) -> Option<Entries> {
    if meta(secret, "namespace") != NAMESPACE || meta(secret, "name") != SECRET {
        return None;
    }
    match entries_of(secret) {
        _ if deleted => Some(Entries::new()),
        Ok(entries) => Some(entries),
        // The tokens that are known stay good.
        Err(error) => {
            let line = error.line();
            tracing::warn!(code = "KE-TOKEN-018", line, "the list of join tokens cannot be read");
            None
        }
    }
}

/// The local copy of the list. One that cannot be written is no reason to end the cloud: the book goes by what was
/// published meanwhile, and the writing is tried again.
struct LocalCopy {
    book: TokenBook,
    /// What is still to be written.
    pending: Option<Entries>,
    due: Instant,
    backoff: Backoff,
    warned: bool,
}

impl LocalCopy {
    fn of(book: TokenBook) -> LocalCopy {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        LocalCopy { book, pending: None, due: Instant::now(), backoff, warned: false }
    }

    async fn take(&mut self, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.pending = Some(entries);
            self.write().await;
        }
    }

    async fn write(&mut self) {
        let Some(entries) = self.pending.clone() else { return };
        let book = self.book.clone();
        match blocking(move || book.follow(&entries)).await {
            Ok(()) => {
                if std::mem::take(&mut self.warned) {
                    tracing::info!("the local copy of the join tokens is written again");
                }
                self.pending = None;
                self.backoff.reset();
            }
            Err(failure) => {
                if !std::mem::replace(&mut self.warned, true) {
                    tracing::warn!(
                        code = failure.code,
                        error = %failure,
                        fix = failure.fix,
                        "the local copy of the join tokens cannot be written"
                    );
                }
                self.due = Instant::now() + self.backoff.next_wait();
            }
        }
    }
}

/// Counts uses in the Secret itself, which every replica reads and only the first of them can write. Needs the API: a
/// token with a number of uses is worth nothing while nobody can say how many are left.
pub(super) fn counting(kube: Kube) -> Counting {
    let desk = Arc::new(Mutex::new(TokenDesk { kube }));
    Arc::new(move |id, holder| {
        let desk = desk.clone();
        Box::pin(async move {
            let counted = async { desk.lock().await.count(&id, &holder).await };
            tokio::time::timeout(COUNT_LIMIT, counted).await.unwrap_or(Err(TokenError::BookUnreadable))
        })
    })
}

/// The list in the Secret; one that has none is empty.
fn entries_of(secret: &Value) -> Result<Entries, serde_json::Error> {
    match trust::bytes(secret, KEY) {
        Some(text) if !text.is_empty() => serde_json::from_slice(&text),
        _ => Ok(Entries::new()),
    }
}

/// Nobody writes over what he cannot read: other tokens may stand there.
fn garbled(error: &serde_json::Error) -> Failure {
    Failure::new("KE-TOKEN-018", "the list of join tokens cannot be read")
        .because(format!("{KEY} in Secret {NAMESPACE}/{SECRET}: at line {}, column {}", error.line(), error.column()))
        .fix(format!("put the Secret back from a copy; or `kubectl -n {NAMESPACE} delete secret {SECRET}`, and make new tokens for the machines that have not joined yet"))
}

fn refused(status: &Status) -> Failure {
    let (fix, exit) = match status.code {
        0 => ("check that the Kubernetes API runs, and --kube-config", Exit::Unreachable),
        401 | 403 => (
            "use a kubeconfig that may read and write Secrets of namespace kubeedge: --kube-config FILE",
            Exit::Failed,
        ),
        404 => ("set the control plane up with `kedge init`, or check --kube-config", Exit::Failed),
        _ => ("check that the cloud runs, and --kube-config", Exit::Failed),
    };
    Failure::new("KE-TOKEN-012", "cannot reach the list of join tokens").because(status).fix(fix).exit(exit)
}

fn no_authority() -> Failure {
    Failure::new("KE-TOKEN-013", "there is no authority yet")
        .because("the cloud has never run against this Kubernetes API")
        .fix("start it with `kedge up` or `kedge cloud run`")
        .exit(Exit::Unreachable)
}

/// New tokens that no cloud takes yet, and the authority that they name.
pub struct Draft {
    pub tokens: Vec<String>,
    pub ca_hash: String,
    entries: Entries,
}

/// Where nodes reach a cloud.
pub struct Whereabouts {
    /// Never empty.
    pub addresses: Vec<String>,
    /// With the ports; `None` where only names are known.
    pub config: Option<CloudConfig>,
}

/// The join tokens of a cloud, as commands change them through the API.
pub struct TokenDesk {
    kube: Kube,
}

impl TokenDesk {
    /// Opens the API by a kubeconfig.
    pub async fn open(kubeconfig: &Path) -> Result<TokenDesk, Failure> {
        Ok(TokenDesk { kube: Kube::named(kubeconfig).await? })
    }

    /// KubeEdge's cluster-wide token.
    pub async fn cluster_token(&self) -> Result<String, Failure> {
        let found = self.kube.get(Resource::SECRET, Some(NAMESPACE), trust::TOKEN_SECRET).await;
        let secret = match found {
            Err(status) if status.is_not_found() => return Err(no_authority()),
            found => found.map_err(|status| refused(&status))?,
        };
        let text = trust::bytes(&secret, trust::TOKEN_KEY).and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(no_authority)
    }

    /// Makes a token with limits.
    pub async fn create(&self, ttl: Duration, grant: Grant) -> Result<String, Failure> {
        let draft = self.draft(ttl, vec![grant]).await?;
        self.publish(&draft, &[]).await?;
        draft.tokens.into_iter().next().ok_or_else(no_authority)
    }

    /// Draws up a token for each grant; they are good once they are published.
    pub async fn draft(&self, ttl: Duration, grants: Vec<Grant>) -> Result<Draft, Failure> {
        let authority = trust::stored_authority(&self.kube).await?.ok_or_else(no_authority)?;
        let mut entries = Entries::new();
        let mut tokens = Vec::new();
        for grant in grants {
            let minted = mint(&authority, ttl, grant);
            entries.insert(minted.id, minted.entry);
            tokens.push(minted.token);
        }
        Ok(Draft { tokens, ca_hash: authority.hash(), entries })
    }

    /// Makes drafted tokens good and those with these ids unusable, in one change of the list.
    pub async fn publish(&self, draft: &Draft, revoked: &[String]) -> Result<(), Failure> {
        self.change(|entries| {
            entries.retain(|id, _| !revoked.contains(id));
            entries.extend(draft.entries.clone());
        })
        .await
    }

    /// Makes drafted tokens unusable again.
    pub async fn take_back(&self, draft: &Draft) -> Result<(), Failure> {
        self.change(|entries| entries.retain(|id, _| !draft.entries.contains_key(id))).await
    }

    /// Where nodes reach the cloud, as far as the cluster knows: the configuration that an installation left there, or
    /// the names in the server's certificate.
    pub async fn whereabouts(&self) -> Result<Option<Whereabouts>, Failure> {
        for name in ["kedge-cloud", "cloudcore"] {
            let found = self.kube.get(Resource::CONFIG_MAP, Some(NAMESPACE), name).await;
            let text =
                found.ok().and_then(|it| it.pointer("/data/cloudcore.yaml")?.as_str().map(str::to_owned));
            let document = text.and_then(|text| serde_yaml::from_str::<Value>(&text).ok());
            let loaded = document.and_then(|it| CloudConfig::from_value(&it, "cloudcore.yaml").ok());
            if let Some(Loaded { config, .. }) = loaded {
                let addresses: Vec<String> =
                    config.hub.advertise.iter().chain(&config.hub.dns_names).cloned().collect();
                if !addresses.is_empty() {
                    return Ok(Some(Whereabouts { addresses, config: Some(config) }));
                }
            }
        }
        let names = trust::server_names(&self.kube).await.map_err(|status| refused(&status))?;
        Ok((!names.is_empty()).then_some(Whereabouts { addresses: names, config: None }))
    }

    /// Tokens that have not expired.
    pub async fn list(&self) -> Result<Entries, Failure> {
        Ok(self.read().await?.1)
    }

    /// Makes a token unusable; `false` when there is none with this id.
    pub async fn revoke(&self, id: &str) -> Result<bool, Failure> {
        self.change(|entries| entries.remove(id).is_some()).await
    }

    /// Counts one use by this holder; whoever has been counted is not counted again.
    async fn count(&self, id: &str, holder: &str) -> Result<(), TokenError> {
        let unreadable = |failure: Failure| {
            tracing::warn!(code = failure.code, error = %failure, "the use of a token cannot be counted");
            TokenError::BookUnreadable
        };
        for _ in 0..COUNTS {
            let (secret, mut entries) = self.read().await.map_err(unreadable)?;
            if !entries.get_mut(id).ok_or(TokenError::UsedUp)?.admit(holder)? {
                return Ok(());
            }
            let data = [(KEY, serde_json::to_vec(&entries).unwrap_or_default())];
            let written = trust::write(&self.kube, SECRET, secret, &data).await;
            if written.map_err(|status| unreadable(refused(&status)))? {
                return Ok(());
            }
            let jitter = u32::from(crate::base::random_bytes::<1>().first().copied().unwrap_or(1) % 16) + 1;
            tokio::time::sleep(PAUSE * jitter).await;
        }
        Err(TokenError::BookUnreadable)
    }

    async fn read(&self) -> Result<(Option<Value>, Entries), Failure> {
        match self.kube.get(Resource::SECRET, Some(NAMESPACE), SECRET).await {
            Ok(secret) => {
                let at = crate::base::now().as_second();
                let mut entries = entries_of(&secret).map_err(|error| garbled(&error))?;
                entries.retain(|_, entry| entry.expires > at);
                Ok((Some(secret), entries))
            }
            Err(status) if status.is_not_found() => Ok((None, Entries::new())),
            Err(status) => Err(refused(&status)),
        }
    }

    async fn change<T>(&self, edit: impl Fn(&mut Entries) -> T) -> Result<T, Failure> {
        for _ in 0..CONFLICTS {
            let (secret, before) = self.read().await?;
            let mut entries = before.clone();
            let outcome = edit(&mut entries);
            if entries == before {
                return Ok(outcome);
            }
            let data = [(KEY, serde_json::to_vec(&entries).unwrap_or_default())];
            let written = trust::write(&self.kube, SECRET, secret, &data).await;
            if written.map_err(|status| refused(&status))? {
                return Ok(outcome);
            }
        }
        Err(Failure::new("KE-TOKEN-014", "the list of join tokens changes all the time")
            .because(format!(
                "Secret {NAMESPACE}/{SECRET} was changed by others at each of {CONFLICTS} attempts"
            ))
            .fix("try again"))
    }
}
