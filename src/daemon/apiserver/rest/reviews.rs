//! Questions that are answered and not stored: who am I, may I, is this token good; and requests for tokens.

use super::Api;
use crate::base::rfc3339;
use crate::daemon::apiserver::auth::rbac::{self, Attributes};
use crate::daemon::apiserver::auth::{Grant, ISSUER, User};
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::ops::Target;
use crate::daemon::apiserver::storage::Key;
use crate::model::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

const SHORTEST: i64 = 600;
const LONGEST: i64 = 365 * 24 * 3600;

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn attributes(spec: &Value) -> Attributes {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    if let Some(path) = spec["nonResourceAttributes"].as_object() {
        let at = |field: &str| path.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        return Attributes { verb: at("verb"), path: Some(at("path")), ..Attributes::default() };
    }
    let want = &spec["resourceAttributes"];
    Attributes {
        verb: text(&want["verb"]),
        group: text(&want["group"]),
        resource: text(&want["resource"]),
        subresource: text(&want["subresource"]),
        name: text(&want["name"]),
        namespace: text(&want["namespace"]),
        path: None,
    }
}

impl Api {
    /// Answers a review.
    pub(super) fn review(&self, target: &Target, user: &User, mut body: Value) -> Result<Value, Status> {
        if !body.is_object() {
            return Err(errors::bad_request("the object provided is not a JSON object"));
        }
        let resource = &target.resource;
        body["kind"] = resource.kind.clone().into();
        body["apiVersion"] = resource.api_version(&target.version).into();
        let spec = body["spec"].clone();
        body["status"] = match resource.kind.as_str() {
            "TokenReview" => self.token_status(&spec),
            "SelfSubjectReview" => json!({"userInfo": user.to_json()}),
            "SelfSubjectAccessReview" => self.access(user, &attributes(&spec)),
            "SelfSubjectRulesReview" => self.rules(user, spec["namespace"].as_str().unwrap_or("default")),
            _ => {
                let other = User {
                    name: spec["user"].as_str().unwrap_or("").to_owned(),
                    uid: String::new(),
                    groups: strings(&spec["groups"]),
                };
                let mut want = attributes(&spec);
                if let Some(namespace) = &target.namespace {
                    want.namespace.clone_from(namespace);
                }
                self.access(&other, &want)
            }
        };
        Ok(body)
    }

    fn token_status(&self, spec: &Value) -> Value {
        let audiences = strings(&spec["audiences"]);
        let token = spec["token"].as_str().unwrap_or("");
        match self.tokens.verify(token, &audiences, &self.ops.store) {
            Some((user, good)) => json!({"authenticated": true, "user": user.to_json(), "audiences": good}),
            None => json!({"authenticated": false, "error": "invalid bearer token"}),
        }
    }

    fn access(&self, user: &User, want: &Attributes) -> Value {
        if rbac::may(&self.ops.store, user, want) {
            json!({"allowed": true})
        } else {
            json!({"allowed": false, "reason": want.refusal(user)})
        }
    }

    fn rules(&self, user: &User, namespace: &str) -> Value {
        let mut rules = rbac::rules(&self.ops.store, user, namespace);
        if user.is_master() {
            rules.push(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
        }
        let (paths, resources): (Vec<Value>, Vec<Value>) =
            rules.into_iter().partition(|rule| rule["nonResourceURLs"].is_array());
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
    }

    /// The `token` subresource of a ServiceAccount.
    pub(super) fn issue_token(&self, target: &Target, mut body: Value) -> Result<Value, Status> {
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let account = self.ops.get(target)?;
        let spec = body["spec"].take();
        let reference = &spec["boundObjectRef"];
        let pod = match (reference["kind"].as_str(), reference["name"].as_str()) {
            (Some("Pod"), Some(name)) => Some(self.bound_pod(namespace, name, reference)?),
            _ => None,
        };
        let mut audiences = strings(&spec["audiences"]);
        if audiences.is_empty() {
            audiences.push(ISSUER.to_owned());
        }
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
        if seconds < SHORTEST {
            let cause = errors::Cause::invalid(
                "spec.expirationSeconds",
                &json!(seconds),
                "may not specify a duration less than 10 minutes",
            );
            return Err(errors::invalid(&target.resource, &target.name, &[cause]));
        }
        let seconds = seconds.min(LONGEST);
        let grant = Grant {
            namespace,
            account: &account,
            pod: pod.as_deref(),
            audiences: audiences.clone(),
            seconds,
        };
        let (token, ends) =
            self.tokens.issue(&grant).ok_or_else(|| errors::internal("the token could not be signed"))?;
        let ends = Timestamp::from_second(ends).map(rfc3339).unwrap_or_default();
        let mut metadata = json!({"name": target.name, "namespace": namespace});
        metadata["creationTimestamp"] = rfc3339(crate::base::now()).into();
        let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds});
        if pod.is_some() {
            spec["boundObjectRef"] = reference.clone();
        } else {
            spec["boundObjectRef"] = Value::Null;
        }
        Ok(json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": metadata,
            "spec": spec, "status": {"token": token, "expirationTimestamp": ends}}))
    }

    fn bound_pod(
        &self,
        namespace: &str,
        name: &str,
        reference: &Value,
    ) -> Result<std::sync::Arc<Value>, Status> {
        let key = Key::new(&Collection::of("", "pods"), Some(namespace), name);
        let pod = self.ops.store.get(&key).ok_or_else(|| Status::not_found("pods", name))?;
        let uid = reference["uid"].as_str().unwrap_or("");
        if !uid.is_empty() && pod["metadata"]["uid"] != uid {
            return Err(Status::failure(
                409,
                "Conflict",
                format!("the UID in the bound object reference ({uid}) does not match the UID in record"),
            ));
        }
        Ok(pod)
    }
}
