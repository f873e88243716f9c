//! The API as `kedge init` uses it: looks, applies with server-side apply under one field manager, keeps Secrets that are
//! there, and gives a cloud on a machine of its own the service account's rights. Every step can be repeated.

use super::super::kubernetes::{Kube, Origin, Resource, meta};
use super::super::trust;
use super::forward;
use super::machines;
use super::manifest::{Mode, Wanted, objects};
use super::neighbours::Neighbour;
use super::review::{self, Form};
use super::rollout::{self, Pending};
use super::standing::Standing;
use super::{LABEL_MANAGED, LABEL_NAME, MANAGER, NAME, NAMESPACE, serving, without_files};
use crate::base::{Backoff, Exit, Failure};
use crate::host::check::Finding;
use crate::link::Endpoint;
use crate::model::{Status, resources};
use crate::pki::Authority;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ESTABLISHED: Duration = Duration::from_secs(60);
const TOKEN_SECRET: &str = "kedge-cloud-token";
/// How long a cluster may take to fill a token's Secret; the embedded API never does.
const FILLED: Duration = Duration::from_secs(5);
const YEAR: i64 = 365 * 86_400;
const MONTH: i64 = 30 * 86_400;

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// `created`, `changed` or `unchanged`.
    pub outcome: &'static str,
}

/// One cluster.
pub struct SetupDesk {
    pub(super) kube: Kube,
    origin: Origin,
}

/// What the preflight saw.
#[derive(Default)]
pub struct Seen {
    pub findings: Vec<Finding>,
    pub neighbours: Vec<Neighbour>,
    /// Addresses for a cloud in the cluster, when nobody named any and there is no choice.
    pub advertise: Vec<String>,
    /// How many machines the scheduler would give the cloud; none where they cannot be listed.
    pub machines: Option<usize>,
    /// Nodes that have one of the addresses.
    pub hosts: Vec<String>,
    /// The API's URL where the cluster has edge nodes only, as that of kedge itself: nothing there tells pods where it is.
    pub api: Option<String>,
}

/// What the preflight is about.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    pub mode: Mode,
    pub replicas: u32,
    pub dynamic: bool,
    /// Pods beside the API servers lead their connections to the cloud.
    pub forwards: bool,
    pub keep_off: bool,
    pub advertise: &'a [String],
    pub standing: &'a Standing,
}

impl SetupDesk {
    /// Opens the API by a kubeconfig and waits a moment for its answer.
    pub async fn open(kubeconfig: &Path) -> Result<SetupDesk, Failure> {
        let origin = Origin::of(kubeconfig).await?;
        let kube = Kube::named(kubeconfig).await?;
        kube.call(Method::GET, "/version", None).await.map_err(|status| {
            let (what, exit) = match status.code {
                401 | 403 => ("the Kubernetes API does not accept this kubeconfig", Exit::Failed),
                _ => ("the Kubernetes API does not answer", Exit::Unreachable),
            };
            Failure::new("KE-INIT-001", format!("{what}: {}", origin.server))
                .because(&status)
                .fix(format!("check {} with `kubectl --kubeconfig {0} version`", kubeconfig.display()))
                .exit(exit)
        })?;
        Ok(SetupDesk { kube, origin })
    }

    /// What a person calls the cluster of a kubeconfig: its name, or its URL where it has none. Asks nobody.
    pub async fn called(kubeconfig: &Path) -> Result<String, Failure> {
        let Origin { cluster, server, .. } = Origin::of(kubeconfig).await?;
        Ok(if cluster.is_empty() { server } else { cluster })
    }

    /// The cluster's name in the kubeconfig.
    pub fn cluster(&self) -> &str {
        &self.origin.cluster
    }

    /// The API's URL.
    pub fn server(&self) -> &str {
        &self.origin.server
    }

    /// Looks at everything, and changes nothing.
    pub async fn look(&self, purpose: &Purpose<'_>) -> Seen {
        let kube = &self.kube;
        let version = kube.call(Method::GET, "/version", None).await.unwrap_or_default();
        let mut findings = vec![review::finding("KE-INIT-001", "Kubernetes API", &self.origin.server)];
        findings.push(review::version(&version));
        let Purpose { mode, replicas, dynamic, forwards, standing, .. } = *purpose;
        let form = Form { mode, several: replicas > 1, dynamic, forwards };
        findings.push(review::permissions(kube, &form, purpose.keep_off).await);
        let record = review::record(kube).await;
        findings.push(review::present(kube, mode, record.as_ref()).await);
        findings.extend(review::going(kube).await);
        let listed = machines::machines(kube).await;
        let looked = listed.is_ok();
        let all = listed.unwrap_or_default();
        if forwards {
            findings.push(forward::planes(&all));
        }
        let machines = machines::able(all);
        let (mut advertise, mut hosts, mut free) = (Vec::new(), Vec::new(), None);
        if mode == Mode::Cluster {
            let (given, known) = (purpose.advertise, standing.addresses());
            let grows = standing.grows_to(replicas);
            let asked = machines::Asked { given, known: &known, replicas, grows };
            let (told, meant) = machines::addresses(&machines, &asked);
            findings.push(told);
            hosts = machines::hosts(&machines, &meant, replicas);
            advertise = meant;
            let (told, count) = machines::room(&machines, &hosts, replicas);
            if looked {
                findings.push(told);
                free = Some(count);
            }
        }
        let edge_only = purpose.mode == Mode::Cluster && machines.iter().any(|it| it.edge);
        let api = edge_only.then(|| self.origin.server.clone());
        let neighbours = review::neighbours(kube).await;
        findings.push(review::about_neighbours(&neighbours, purpose.keep_off));
        Seen { findings, neighbours: neighbours.unwrap_or_default(), advertise, machines: free, hosts, api }
    }

    /// Applies one object as this field manager. Fields that somebody else owns are taken over only by `force`.
    pub async fn apply(&self, object: &Value, force: bool) -> Result<Applied, Failure> {
        self.send(object, force, "").await
    }

    async fn send(&self, object: &Value, force: bool, manner: &str) -> Result<Applied, Failure> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (meta(object, "namespace").to_owned(), meta(object, "name").to_owned());
        let told =
            format!("{kind} {}", [namespace.as_str(), name.as_str()].join("/").trim_start_matches('/'));
        let Some(resource) = Resource::named(&kind) else {
            return Err(Failure::new("KE-INIT-009", format!("cannot apply {told}"))
                .because("kedge knows no such kind")
                .fix("send `kedge bugreport` to the developers, with the command that was run"));
        };
        let place = Some(namespace.as_str()).filter(|it| !it.is_empty());
        let before = match self.kube.get(resource, place, &name).await {
            Ok(present) => Some(meta(&present, "resourceVersion").to_owned()),
            Err(status) if status.is_not_found() => None,
            Err(status) => return Err(refused(&told, &status)),
        };
        let path = resource.path(place, Some(&name), None);
        let path = format!("{path}?fieldManager={MANAGER}&force={force}{manner}");
        let body = object.to_string().into_bytes();
        let content = "application/apply-patch+yaml";
        let after = self.kube.call(Method::PATCH, &path, Some((content, body))).await;
        let after = after.map_err(|status| refused(&told, &status))?;
        let outcome = match before {
            None => "created",
            Some(version) if version == meta(&after, "resourceVersion") => "unchanged",
            Some(_) => "changed",
        };
        Ok(Applied { kind, namespace, name, outcome })
    }

    /// Applies one of the objects of an installation. The configuration was read and is built upon: whoever wrote it, it is
    /// taken over, unless somebody has changed it since.
    pub async fn put(&self, wanted: &Wanted, object: &Value, force: bool) -> Result<Applied, Failure> {
        self.put_in(wanted, object, force, "").await
    }

    async fn put_in(
        &self,
        wanted: &Wanted,
        object: &Value,
        force: bool,
        manner: &str,
    ) -> Result<Applied, Failure> {
        let version = wanted.standing.version.as_str();
        if object["kind"] != "ConfigMap" || version.is_empty() {
            return self.send(object, force, manner).await;
        }
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(version);
        self.send(&object, true, manner).await
    }

    /// Asks the API whether it would take everything, and changes nothing. Before there is a namespace nobody can be asked
    /// about what goes into it.
    pub async fn rehearse(&self, wanted: &Wanted, force: bool) -> Result<(), Failure> {
        let there = self.kube.get(Resource::NAMESPACE, None, NAMESPACE).await.is_ok();
        let mut all = resources::all_crds();
        all.extend(objects(wanted));
        for object in all.iter().filter(|it| there || meta(it, "namespace") != NAMESPACE) {
            let told = self.put_in(wanted, object, force, "&dryRun=All").await;
            told.map_err(|failure| {
                let fix = format!("{}; nothing was changed", failure.fix);
                failure.fix(fix)
            })?;
        }
        Ok(())
    }

    /// Applies KubeEdge's definitions and waits until the API serves them.
    pub async fn definitions(&self, force: bool) -> Result<Vec<Applied>, Failure> {
        let mut all = Vec::new();
        for crd in resources::all_crds() {
            all.push(self.apply(&crd, force).await?);
        }
        let started = Instant::now();
        for resource in resources::all() {
            let name = resource.crd_name();
            let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
            while !self.is_established(&name).await {
                if started.elapsed() > ESTABLISHED {
                    let status = Status::failure(504, "Timeout", "the API does not serve it");
                    return Err(refused(&format!("CustomResourceDefinition {name}"), &status));
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
        Ok(all)
    }

    async fn is_established(&self, name: &str) -> bool {
        let crd = self.kube.get(Resource::CUSTOM_RESOURCE_DEFINITION, None, name).await;
        crd.is_ok_and(|crd| super::super::install::is_established(&crd))
    }

    /// The authority that nodes will trust: the one that is there, the operator's files, or a new one.
    pub async fn authority(&self, wanted: &Wanted) -> Result<Arc<Authority>, Failure> {
        let hub = match wanted.mode {
            Mode::Host => wanted.config.hub.clone(),
            Mode::Cluster => without_files(&wanted.config),
        };
        trust::ensure_authority(&self.kube, &hub).await
    }

    /// Keeps a DaemonSet off edge nodes; what was there before is noted on it.
    pub async fn keep_off(&self, neighbour: &Neighbour) -> Result<(), Failure> {
        self.merge(Resource::DAEMON_SET, &neighbour.namespace, &neighbour.name, &neighbour.patch)
            .await
            .map_err(|status| {
                refused(&format!("DaemonSet {}/{}", neighbour.namespace, neighbour.name), &status)
            })
    }

    pub(super) async fn merge(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), Status> {
        let path = resource.path(Some(namespace), Some(name), None) + "?fieldManager=" + MANAGER;
        let body = patch.to_string().into_bytes();
        self.kube.call(Method::PATCH, &path, Some(("application/merge-patch+json", body))).await.map(drop)
    }

    /// A kubeconfig with the service account's rights and no more: the one in this file while it is good, else a new one.
    /// The token is the cluster's own for the account; where the cluster makes none, one for a year.
    pub async fn access(&self, present: &Path) -> Result<String, Failure> {
        if let Some(text) = self.good(present).await {
            return Ok(text);
        }
        let told = format!("Secret {NAMESPACE}/{TOKEN_SECRET}");
        let wanted = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": TOKEN_SECRET, "namespace": NAMESPACE,
                "annotations": {"kubernetes.io/service-account.name": NAME},
                "labels": {LABEL_NAME: NAME, LABEL_MANAGED: MANAGER}},
        });
        match self.kube.create(Resource::SECRET, Some(NAMESPACE), &wanted).await {
            Err(status) if !status.already_exists() => return Err(refused(&told, &status)),
            _ => {}
        }
        let started = Instant::now();
        while started.elapsed() < FILLED {
            let found = self.kube.get(Resource::SECRET, Some(NAMESPACE), TOKEN_SECRET).await;
            let found = found.map_err(|status| refused(&told, &status))?;
            let token = trust::bytes(&found, "token").and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(token) = token.filter(|token| !token.is_empty()) {
                return Ok(self.origin.kubeconfig(NAME, &token, self.kube.ca_pem()));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        // It would never be filled; an empty one only confuses.
        drop(self.kube.delete(Resource::SECRET, Some(NAMESPACE), TOKEN_SECRET, &json!({})).await);
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": YEAR}});
        let account = Resource::SERVICE_ACCOUNT;
        let answer = self.kube.create_below(account, Some(NAMESPACE), NAME, "token", &request).await;
        let answer = answer.map_err(|status| refused("a token of the service account", &status))?;
        let token = answer.pointer("/status/token").and_then(Value::as_str).unwrap_or_default();
        Ok(self.origin.kubeconfig(NAME, token, self.kube.ca_pem()))
    }

    /// The kubeconfig in a file if it is for this cluster, the API takes its token, and will for a month.
    async fn good(&self, present: &Path) -> Option<String> {
        let text = tokio::fs::read_to_string(present).await.ok()?;
        let document: Value = serde_yaml::from_str(&text).ok()?;
        let token = document.pointer("/users/0/user/token")?.as_str()?;
        let ends = token_end(token)?;
        if ends.is_some_and(|at| at < crate::base::now().as_second() + MONTH)
            || text != self.origin.kubeconfig(NAME, token, self.kube.ca_pem())
        {
            return None;
        }
        let kube = Kube::named(present).await.ok()?;
        kube.get(Resource::NAMESPACE, None, NAMESPACE).await.ok()?;
        Some(text)
    }

    /// Waits until what was applied runs, and every address serves with this authority. A Deployment needs as many pods as
    /// there are machines for its replicas.
    pub async fn serves(
        &self,
        wanted: &Wanted,
        addresses: &[String],
        authority: &Authority,
        limit: Duration,
    ) -> Result<(), Failure> {
        let port = wanted.config.hub.https.port();
        let endpoints: Vec<Endpoint> =
            addresses.iter().map(|host| Endpoint { host: host.clone(), port }).collect();
        let machines = u64::try_from(wanted.machines.unwrap_or(1)).unwrap_or(u64::MAX);
        let needed = u64::from(wanted.replicas).min(machines.max(1));
        serving::wait(&endpoints, authority, limit, async || match wanted.mode {
            Mode::Cluster => self.pending(needed).await,
            Mode::Host => None,
        })
        .await
    }

    /// Whether this endpoint serves this authority now.
    pub async fn serves_now(&self, address: &str, port: u16, authority: &Authority) -> bool {
        serving::ask(&Endpoint { host: address.to_owned(), port }, authority).await.is_ok()
    }

    /// What the Deployment still lacks; its pods know best why.
    async fn pending(&self, needed: u64) -> Option<Pending> {
        let found = self.kube.get(Resource::DEPLOYMENT, Some(NAMESPACE), NAME).await;
        let (behind, refused) = match found {
            Ok(deployment) => (rollout::behind(&deployment, needed)?, rollout::refusal(&deployment)),
            Err(status) => return Some(Pending::new(status.to_string())),
        };
        let selector = format!("labelSelector={LABEL_NAME}%3D{NAME}");
        let (mut held, mut seen) = (None, false);
        let listed = self.kube.list(Resource::POD, Some(NAMESPACE), &selector, |pod| {
            seen = true;
            held = held.take().or_else(|| rollout::hindrance(&pod));
        });
        drop(listed.await);
        Some(held.or(refused).unwrap_or_else(|| {
            let none = if seen { "" } else { ", and no pod was made yet" };
            Pending::new(format!("Deployment {NAMESPACE}/{NAME}: {behind}{none}"))
        }))
    }
}

/// When a service account's token ends, in seconds since the epoch: `Some(None)` for one that does not, `None` for what is
/// no such token.
fn token_end(token: &str) -> Option<Option<i64>> {
    use base64::Engine;
    let payload = token.split('.').nth(1)?;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims.is_object().then(|| claims["exp"].as_i64())
}

fn refused(told: &str, status: &Status) -> Failure {
    let failure = Failure::new("KE-INIT-009", format!("cannot apply {told}")).because(status);
    match status.code {
        409 if status.message.contains("has been modified") => {
            failure.fix("somebody changed it meanwhile: run the same command again, which looks at it anew")
        }
        409 => failure.fix("look at what is there; `--force` takes the named fields over"),
        403 => failure.fix("use the kubeconfig of a cluster administrator: --kube-config FILE"),
        0 => failure.fix("check that the Kubernetes API runs").exit(Exit::Unreachable),
        _ => failure.fix("mend what is named and run the same command again: it goes on where it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read_from_it() {
        use base64::Engine;
        let token =
            |claims: &str| format!("h.{}.s", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(token_end(&token(r#"{"exp":1800000000}"#)), Some(Some(1_800_000_000)));
        assert_eq!(token_end(&token(r#"{"sub":"x"}"#)), Some(None));
        assert_eq!(token_end("nonsense"), None);
        assert_eq!(token_end(&token("5")), None);
    }
}
