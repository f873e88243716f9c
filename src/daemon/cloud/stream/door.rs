//! Who may use the kubelet API of a cloud in a real cluster: callers whom the cluster's own authority vouches for (it
//! publishes it in `kube-system/extension-apiserver-authentication`) and whom the cluster lets reach `nodes/proxy`. The
//! same authority signs every user of the cluster, so the certificate alone is not enough.

use super::super::kubernetes::{Kube, Resource};
use super::requests::refuse;
use crate::base::{Exit, Failure};
use crate::link::http::{Body, Caller};
use crate::model::Status;
use crate::pki::{Peer, certificates_of};
use http::{Method, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PLACE: (&str, &str, &str) = ("kube-system", "extension-apiserver-authentication", "client-ca-file");
/// How long an answer holds; a kubelet keeps a yes for five minutes and a no for half of one.
const YES: Duration = Duration::from_secs(300);
const NO: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 1024;

type Asked = (String, Vec<String>, &'static str);

/// The door of the kubelet API.
pub(in crate::daemon::cloud) struct Door {
    kube: Kube,
    pub ca_pem: String,
    known: Mutex<HashMap<Asked, (bool, Instant)>>,
}

impl Door {
    /// Asks the cluster for its authority.
    pub async fn open(kube: Kube) -> Result<Door, Failure> {
        let (namespace, name, key) = PLACE;
        let refused = |why: String| {
            Failure::new("KE-CLOUD-027", "the cluster does not say which authority vouches for its API server")
                .because(why)
                .fix("put tlsStreamCAFile, tlsStreamCertFile and tlsStreamPrivateKeyFile in place, or set modules.cloudStream.enable=false")
                .exit(Exit::Configuration)
        };
        let limit = Duration::from_secs(60);
        let found = kube.insist(limit, || kube.get(Resource::CONFIG_MAP, Some(namespace), name)).await;
        let found = found.map_err(|status| refused(format!("ConfigMap {namespace}/{name}: {status}")))?;
        let pem =
            found.get("data").and_then(|data| data.get(key)).and_then(Value::as_str).unwrap_or_default();
        if !certificates_of(pem).is_ok_and(|all| !all.is_empty()) {
            return Err(refused(format!("ConfigMap {namespace}/{name} has no {key}")));
        }
        Ok(Door { kube, ca_pem: pem.to_owned(), known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Asked, (bool, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer for a caller who may not.
    pub async fn turns_away(&self, caller: &Caller, method: &Method) -> Option<Response<Body>> {
        let peer = caller.peer.clone().unwrap_or_default();
        match self.may(&peer, verb(method)).await {
            Ok(true) => None,
            Ok(false) => {
                tracing::warn!(user = peer.common_name, "a caller may not reach nodes");
                let why =
                    format!("User \"{}\" cannot {} resource \"nodes/proxy\"", peer.common_name, verb(method));
                Some(refuse(403, "Forbidden", why))
            }
            Err(status) => {
                tracing::warn!(code = status.code, reason = status.reason, "a caller could not be judged");
                Some(refuse(503, "ServiceUnavailable", "the Kubernetes API does not say whether you may"))
            }
        }
    }

    async fn may(&self, peer: &Peer, verb: &'static str) -> Result<bool, Status> {
        let asked = (peer.common_name.clone(), peer.organizations.clone(), verb);
        let now = Instant::now();
        if let Some((allowed, until)) = self.known().get(&asked).copied()
            && now < until
        {
            return Ok(allowed);
        }
        let groups: Vec<&str> =
            peer.organizations.iter().map(String::as_str).chain(["system:authenticated"]).collect();
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": peer.common_name, "groups": groups,
            "resourceAttributes": {"verb": verb, "resource": "nodes", "subresource": "proxy"}}});
        let answer = self.kube.create(Resource::SUBJECT_ACCESS_REVIEW, None, &review).await?;
        let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false);
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(asked, (allowed, now + if allowed { YES } else { NO }));
        Ok(allowed)
    }
}

/// The verb of the API that a kubelet judges a method by.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}
