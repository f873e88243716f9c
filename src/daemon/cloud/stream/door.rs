//! Who may use the kubelet API of a cloud in a real cluster: callers whom the cluster's own authority vouches for (it
//! publishes it in `kube-system/extension-apiserver-authentication`) or whose token it knows, as metrics-server's, and
//! whom the cluster lets reach that part of nodes. The same authority signs every user of the cluster, so being known is
//! not enough.

use super::super::kubernetes::{Kube, Resource};
use super::requests::refuse;
use crate::base::{Exit, Failure};
use crate::link::http::{Body, Caller};
use crate::model::Status;
use crate::pki::certificates_of;
use http::{Method, Request, Response, header};
use ring::digest;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const PLACE: (&str, &str, &str) = ("kube-system", "extension-apiserver-authentication", "client-ca-file");
/// How long an answer holds; a kubelet keeps a yes for five minutes and a no for half of one.
const YES: Duration = Duration::from_secs(300);
const NO: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 1024;
/// How long it holds whose a token is, and the longest token in bytes.
const IDENTITY: Duration = Duration::from_secs(60);
const TOKEN: usize = 16 << 10;
/// Strangers make the cluster judge no more tokens than this at a time.
const JUDGED: usize = 16;

/// Somebody of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    name: String,
    groups: Vec<String>,
}

/// Who, the verb, and the part of nodes.
type Asked = (User, &'static str, &'static str);
type Fingerprint = Vec<u8>;

/// The door of the kubelet API.
pub(in crate::daemon::cloud) struct Door {
    kube: Kube,
    pub ca_pem: String,
    known: Mutex<HashMap<Asked, (bool, Instant)>>,
    /// Whose tokens are, by their digest: tokens themselves are not kept.
    tokens: Mutex<HashMap<Fingerprint, (Option<User>, Instant)>>,
    judged: Semaphore,
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
        let (known, tokens) = (Mutex::default(), Mutex::default());
        Ok(Door { kube, ca_pem: pem.to_owned(), known, tokens, judged: Semaphore::new(JUDGED) })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Asked, (bool, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer for a caller who may not.
    pub async fn turns_away<B>(&self, caller: &Caller, request: &Request<B>) -> Option<Response<Body>> {
        let unknown = |status: Status| {
            tracing::warn!(code = status.code, reason = status.reason, "a caller could not be judged");
            Some(refuse(503, "ServiceUnavailable", "the Kubernetes API does not say whether you may"))
        };
        let user = match self.user(caller, request).await {
            Ok(Some(user)) => user,
            Ok(None) => {
                let why = "a client certificate or a token of the cluster is needed here";
                return Some(refuse(401, "Unauthorized", why));
            }
            Err(status) => return unknown(status),
        };
        let (verb, part) = (verb(request.method()), part(request.uri().path()));
        match self.may(&user, verb, part).await {
            Ok(true) => None,
            Ok(false) => {
                tracing::warn!(user = user.name, part, "a caller may not reach nodes");
                let why = format!("User \"{}\" cannot {verb} resource \"nodes/{part}\"", user.name);
                Some(refuse(403, "Forbidden", why))
            }
            Err(status) => unknown(status),
        }
    }

    /// Whom the certificate or else the token names.
    async fn user<B>(&self, caller: &Caller, request: &Request<B>) -> Result<Option<User>, Status> {
        if let Some(peer) = &caller.peer {
            let groups = peer.organizations.iter().map(String::as_str).chain(["system:authenticated"]);
            let groups = groups.map(str::to_owned).collect();
            return Ok(Some(User { name: peer.common_name.clone(), groups }));
        }
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        match token.filter(|token| !token.is_empty() && token.len() <= TOKEN) {
            Some(token) => self.holder(token).await,
            None => Ok(None),
        }
    }

    /// Whose token this is, as the cluster says.
    async fn holder(&self, token: &str) -> Result<Option<User>, Status> {
        let print = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec();
        let tokens = || self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((user, until)) = tokens().get(&print).cloned()
            && now < until
        {
            return Ok(user);
        }
        let busy = |_| Status::failure(503, "ServiceUnavailable", "too many tokens at once");
        let turn = self.judged.try_acquire().map_err(busy)?;
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = self.kube.create(Resource::TOKEN_REVIEW, None, &review).await?;
        drop(turn);
        let user = holder(&answer);
        let life = if user.is_some() { IDENTITY } else { NO };
        let mut tokens = tokens();
        if tokens.len() >= REMEMBERED {
            tokens.clear();
        }
        tokens.insert(print, (user.clone(), now + life));
        Ok(user)
    }

    async fn may(&self, user: &User, verb: &'static str, part: &'static str) -> Result<bool, Status> {
        let asked = (user.clone(), verb, part);
        let now = Instant::now();
        if let Some((allowed, until)) = self.known().get(&asked).copied()
            && now < until
        {
            return Ok(allowed);
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": user.name, "groups": user.groups,
            "resourceAttributes": {"verb": verb, "resource": "nodes", "subresource": part}}});
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

/// The part of nodes that a kubelet judges a path by.
fn part(path: &str) -> &'static str {
    match path.trim_start_matches('/').split('/').next() {
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        _ => "proxy",
    }
}

/// Reads the cluster's word on a token.
fn holder(review: &Value) -> Option<User> {
    let status = review.get("status").filter(|status| status["authenticated"] == true)?;
    let name = status.pointer("/user/username")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    let groups = status.pointer("/user/groups").and_then(Value::as_array).into_iter().flatten();
    Some(User { name, groups: groups.filter_map(|group| group.as_str().map(str::to_owned)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_path_says_which_right_it_needs() {
        let paths = ["/stats/summary", "/metrics/resource", "/containerLogs/a/b/c", "/metricsx", "/"];
        assert_eq!(paths.map(part), ["stats", "metrics", "proxy", "proxy", "proxy"]);
    }

    #[test]
    fn only_the_clusters_yes_names_a_user() {
        let review = json!({"status": {"authenticated": true, "user": {"username": "a", "groups": ["g"]}}});
        assert_eq!(holder(&review), Some(User { name: "a".to_owned(), groups: vec!["g".to_owned()] }));
        for other in [
            json!({"status": {"authenticated": false, "user": {"username": "a"}}}),
            json!({"status": {"authenticated": true, "user": {"username": ""}}}),
            json!({"status": {"authenticated": "true", "user": {"username": "a"}}}),
            json!({}),
        ] {
            assert_eq!(holder(&other), None, "{other}");
        }
    }
}
