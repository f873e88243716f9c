//! The API as `kedge init` uses it: looks, applies with server-side apply under one field manager, keeps Secrets that are
//! there, and gives a cloud on a machine of its own the service account's rights. Every step can be repeated.

use super::super::kubernetes::{Kube, Origin, Resource, meta};
use super::super::trust;
use super::forward;
use super::manifest::{Mode, Wanted};
use super::neighbours::Neighbour;
use super::review::{self, Form, Verdict};
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
    /// Nodes that have one of the addresses.
    pub hosts: Vec<String>,
    /// The API's URL where the cluster has edge nodes only, as that of kedge itself: nothing there tells pods where it is.
    pub api: Option<String>,
}

/// What the preflight is about.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    pub mode: Mode,
    pub ha: bool,
    pub dynamic: bool,
    /// Pods beside the API servers lead their connections to the cloud.
    pub forwards: bool,
    pub keep_off: bool,
    pub advertise: &'a [String],
}

impl SetupDesk {
    /// Opens the API by a kubeconfig and waits a moment for its answer.
    pub async fn open(kubeconfig: &Path) -> Result<SetupDesk, Failure> {
        let origin = Origin::of(kubeconfig).await?;
        let kube = Kube::connect(Some(kubeconfig), "").await?;
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
        let Purpose { mode, ha, dynamic, forwards, .. } = *purpose;
        let form = Form { mode, ha, dynamic, forwards };
        findings.push(review::permissions(kube, &form, purpose.keep_off).await);
        findings.push(review::present(kube).await);
        let all = review::machines(kube).await.unwrap_or_default();
        if forwards {
            findings.push(forward::planes(&all));
        }
        let machines = review::able(all);
        let mut advertise = Vec::new();
        if purpose.mode == Mode::Cluster {
            let finding = |seen: String| review::finding("KE-INIT-006", "addresses for nodes", seen);
            findings.push(if !purpose.advertise.is_empty() {
                finding(purpose.advertise.join(", "))
            } else {
                match (review::choose_addresses(&machines, purpose.ha), review::advertised(kube).await) {
                    // Machines that came since do not make it another cloud.
                    (Err(_), Some(chosen)) | (Ok(chosen), _) => {
                        advertise = chosen;
                        finding(advertise.join(", "))
                    }
                    (Err(possible), None) => finding("none given".to_owned()).fails(
                        format!("nodes need an address of the cloud; the cluster's machines have {possible:?}"),
                        "name the cloud's address, or that of a load balancer before it: --advertise-address IP",
                    ),
                }
            });
        }
        if purpose.mode == Mode::Cluster && purpose.ha {
            findings.push(review::room(&machines));
        }
        let meant = if advertise.is_empty() { purpose.advertise } else { &advertise };
        let hosts = machines.iter().filter(|it| it.addresses.iter().any(|address| meant.contains(address)));
        let hosts = hosts.map(|it| it.host.clone()).collect();
        let edge_only = purpose.mode == Mode::Cluster && machines.iter().any(|it| it.edge);
        let api = edge_only.then(|| self.origin.server.clone());
        let neighbours = review::neighbours(kube).await;
        findings.push(review::about_neighbours(&neighbours, purpose.keep_off));
        Seen { findings, neighbours: neighbours.unwrap_or_default(), advertise, hosts, api }
    }

    /// Applies one object as this field manager. Fields that somebody else owns are taken over only by `force`.
    pub async fn apply(&self, object: &Value, force: bool) -> Result<Applied, Failure> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (meta(object, "namespace").to_owned(), meta(object, "name").to_owned());
        let told =
            format!("{kind} {}", [namespace.as_str(), name.as_str()].join("/").trim_start_matches('/'));
        let Some(resource) = Resource::named(&kind) else {
            return Err(Failure::new("KE-INIT-009", format!("cannot apply {told}")));
        };
        let place = Some(namespace.as_str()).filter(|it| !it.is_empty());
        let before = match self.kube.get(resource, place, &name).await {
            Ok(present) => Some(meta(&present, "resourceVersion").to_owned()),
            Err(status) if status.is_not_found() => None,
            Err(status) => return Err(refused(&told, &status)),
        };
        let path =
            format!("{}?fieldManager={MANAGER}&force={force}", resource.path(place, Some(&name), None));
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

    /// A kubeconfig with the service account's rights and no more. The token is the cluster's own for the account; where
    /// the cluster makes none, one for a year.
    pub async fn access(&self) -> Result<String, Failure> {
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

    /// Waits until every address serves with this authority. What hinders the Deployment is part of the failure.
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
        serving::wait(&endpoints, authority, limit, async |_: &str| match wanted.mode {
            Mode::Cluster => self.hindrance().await,
            Mode::Host => None,
        })
        .await
    }

    /// Whether this endpoint serves this authority now.
    pub async fn serves_now(&self, address: &str, port: u16, authority: &Authority) -> bool {
        serving::ask(&Endpoint { host: address.to_owned(), port }, authority).await.is_ok()
    }

    /// Why the Deployment's pods do not serve.
    async fn hindrance(&self) -> Option<String> {
        let selector = format!("labelSelector={LABEL_NAME}%3D{NAME}");
        let mut why = None;
        let mut seen = false;
        let listed = self.kube.list(Resource::POD, Some(NAMESPACE), &selector, |pod| {
            seen = true;
            why = why.take().or_else(|| pod_hindrance(&pod));
        });
        listed.await.ok()?;
        why.or_else(|| (!seen).then(|| format!("no pod of Deployment {NAMESPACE}/{NAME} was made yet")))
    }
}

/// What keeps a pod from being ready, in one line.
fn pod_hindrance(pod: &Value) -> Option<String> {
    let name = meta(pod, "name");
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|it| it["type"] == "PodScheduled" && it["status"] == "False")
        .and_then(|it| it["message"].as_str());
    if let Some(message) = unscheduled {
        return Some(format!("pod {name} has no machine: {message}"));
    }
    let state = pod.pointer("/status/containerStatuses/0/state")?;
    let held = state.get("waiting").or_else(|| state.get("terminated"))?;
    let text = |field: &str| held[field].as_str().unwrap_or_default();
    Some(format!("pod {name}: {} {}", text("reason"), text("message")).trim_end().to_owned())
}

fn refused(told: &str, status: &Status) -> Failure {
    let failure = Failure::new("KE-INIT-009", format!("cannot apply {told}")).because(status);
    match status.code {
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
    fn a_pods_hindrance_is_told() {
        let waiting = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}});
        assert_eq!(pod_hindrance(&waiting).unwrap(), "pod p: ImagePullBackOff no such image");
        let homeless = json!({"metadata": {"name": "p"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}});
        assert_eq!(pod_hindrance(&homeless).unwrap(), "pod p has no machine: 0/1 nodes are available");
        assert_eq!(pod_hindrance(&json!({})), None);
    }
}
