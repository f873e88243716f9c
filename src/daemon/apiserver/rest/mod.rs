//! The API over HTTPS: from a request to its answer. `mod.rs` above runs the listener and calls [`Api::serve`].
//!
//! path -> who (`auth`) -> may they (`auth::rbac`) -> body -> read, watch, change (`ops`) -> answer in the asked form.
//! A refusal anywhere becomes a `metav1.Status`.

mod body;
mod discovery;
mod documents;
mod logs;
mod path;
mod protobuf;
mod proxy;
mod read;
mod reply;
mod reviews;
mod scale;
mod session;
mod watch;

pub use logs::Kubelet;

use super::auth::rbac::{self, Attributes};
use super::auth::{self, Tokens, User};
use super::errors;
use super::local::{Deletion, Propagation};
use super::ops::{DeleteOptions, Ops, Options, Patch, Removed, Target, UnknownFields};
use super::selector::FieldSelector;
use super::storage::Key;
use crate::base::{Errands, Stop, now};
use crate::link::http::{Body, Caller};
use crate::model::Status;
use http::{HeaderMap, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use path::{Query, ResourcePath, Shape};
use scale::ScaleWish;
use serde_json::{Value, json};

/// Everything that answers requests.
pub struct Api {
    pub ops: Ops,
    pub tokens: Tokens,
    pub kubelet: Option<Kubelet>,
    /// Where sessions with pods go on once they are begun.
    pub errands: Errands,
    /// `host:port` as clients see it.
    pub address: String,
}

/// The parts of a request that stay while its body is read.
struct Asked {
    method: Method,
    path: String,
    query: Query,
    /// As it was sent.
    raw_query: Option<String>,
    headers: HeaderMap,
    user: User,
}

impl Asked {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    fn shape(&self) -> Shape {
        match path::shape(self.header(header::ACCEPT)) {
            Shape::Table(_) => Shape::Table(path::include(self.query.get("includeObject"))),
            other => other,
        }
    }

    fn watches(&self) -> bool {
        self.method == Method::GET && self.query.is_true("watch")
    }

    /// The one name that a list or watch is narrowed to: rights by name cover it.
    fn selected_name(&self) -> String {
        let selector = FieldSelector::parse(self.query.get("fieldSelector"));
        let name = selector.ok().and_then(|selector| selector.exact("metadata.name").map(str::to_owned));
        name.filter(|_| matches!(self.method, Method::GET | Method::HEAD)).unwrap_or_default()
    }

    fn verb(&self, named: bool) -> &'static str {
        match (self.method.as_str(), named) {
            ("GET" | "HEAD", _) if self.watches() => "watch",
            ("GET" | "HEAD", true) => "get",
            ("GET" | "HEAD", false) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "",
        }
    }

    /// Field manager, dry run and strictness of a change.
    fn options(&self) -> Result<Options, Status> {
        let named = self.query.get("fieldManager");
        let agent = self.header(header::USER_AGENT).split('/').next().unwrap_or("");
        let manager = match (named, agent) {
            ("", "") => "unknown",
            ("", agent) => agent,
            (named, _) => named,
        };
        let validation = self.query.get("fieldValidation");
        let unknown_fields = UnknownFields::parse(validation).ok_or_else(|| {
            errors::bad_request(format!("fieldValidation: Unsupported value: \"{validation}\""))
        })?;
        let dry_run = dry_run(self.query.get("dryRun"))?;
        Ok(Options { manager: manager.chars().take(128).collect(), dry_run, unknown_fields, at: now() })
    }
}

fn dry_run(text: &str) -> Result<bool, Status> {
    match text {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(errors::bad_request(format!(
            "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
        ))),
    }
}

impl Api {
    /// Answers one request.
    pub async fn serve(
        &self,
        request: http::Request<Incoming>,
        caller: &Caller,
        stop: Stop,
    ) -> Response<Body> {
        match self.answer(request, caller, stop).await {
            Ok(response) => response,
            Err(status) => reply::status(&status),
        }
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
        caller: &Caller,
        stop: Stop,
    ) -> Result<Response<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let user = auth::authenticate(&parts.headers, caller, &self.tokens, &self.ops.store)?;
        let user = auth::impersonate(&parts.headers, user, &self.ops.store)?;
        let query = Query::parse(parts.uri.query().unwrap_or(""))
            .ok_or_else(|| errors::bad_request("the query is not valid"))?;
        let path = parts.uri.path().to_owned();
        let raw_query = parts.uri.query().map(str::to_owned);
        let asked = Asked { method: parts.method, path, query, raw_query, headers: parts.headers, user };
        match path::resource(&asked.path) {
            Some(resource) => {
                self.authorize(&asked, &resource)?;
                let target = self.target(&resource)?;
                if let Some(beyond) = &resource.beyond {
                    return self.node_proxy(&asked, &target, beyond).await;
                }
                if session::is_session(&target) {
                    return self.session(&asked, &target, upgrade).await;
                }
                self.resource(&asked, target, body, stop).await
            }
            None => self.plain(&asked).await,
        }
    }

    fn authorize(&self, asked: &Asked, path: &ResourcePath) -> Result<(), Status> {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let own = path.plural == "namespaces" && path.group.is_empty();
        let want = Attributes {
            verb: asked.verb(path.name.is_some()).to_owned(),
            group: path.group.clone(),
            resource: path.plural.clone(),
            subresource: text(&path.subresource),
            name: path.name.clone().unwrap_or_else(|| asked.selected_name()),
            namespace: if own { text(&path.name) } else { text(&path.namespace) },
            path: None,
        };
        if rbac::may(&self.ops.store, &asked.user, &want) {
            return Ok(());
        }
        let (user, verb, resource) = (&asked.user.name, &want.verb, &want.resource);
        tracing::debug!(user, verb, resource, namespace = want.namespace, "a request is forbidden");
        let name = if want.name.is_empty() { String::new() } else { format!(" \"{}\"", want.name) };
        let group = if want.group.is_empty() { String::new() } else { format!(".{}", want.group) };
        let message = format!("{}{group}{name} is forbidden: {}", want.resource, want.refusal(&asked.user));
        let mut status = Status::failure(403, "Forbidden", message);
        status.details = Some(json!({"name": want.name, "group": want.group, "kind": want.resource}));
        Err(status)
    }

    fn target(&self, path: &ResourcePath) -> Result<Target, Status> {
        let found = self.ops.kinds.find(&path.group, &path.version, &path.plural);
        let resource = found.ok_or_else(errors::unknown_path)?;
        if path.namespace.is_some() && !resource.namespaced {
            return Err(errors::unknown_path());
        }
        if path.namespace.is_none() && resource.namespaced && path.name.is_some() {
            return Err(errors::unknown_path());
        }
        Ok(Target {
            resource,
            version: path.version.clone(),
            namespace: path.namespace.clone(),
            name: path.name.clone().unwrap_or_default(),
            subresource: path.subresource.clone(),
        })
    }

    async fn resource(
        &self,
        asked: &Asked,
        target: Target,
        body: Incoming,
        stop: Stop,
    ) -> Result<Response<Body>, Status> {
        if target.resource.review {
            if asked.method != Method::POST || !target.name.is_empty() {
                return Err(errors::method_not_allowed());
            }
            let object = body::object(&asked.headers, &body::read(body).await?)?;
            return Ok(reply::json(StatusCode::CREATED, &self.review(&target, &asked.user, object)?));
        }
        if let Some(subresource) = target.subresource.clone() {
            return self.subresource(asked, target, &subresource, body).await;
        }
        let named = !target.name.is_empty();
        match (asked.method.as_str(), named) {
            ("GET" | "HEAD", _) if asked.watches() => self.watch(&target, &asked.query, asked.shape(), stop),
            ("GET" | "HEAD", true) => self.get(&target, asked.shape()),
            ("GET" | "HEAD", false) => self.list(&target, &asked.query, asked.shape()),
            ("POST", false) => self.create(asked, target, body).await,
            ("PUT" | "PATCH", true) => self.change(asked, target, body).await,
            ("DELETE", true) => self.delete(asked, target, body).await,
            ("DELETE", false) => self.delete_collection(asked, target, body).await,
            _ => Err(errors::method_not_allowed()),
        }
    }

    async fn subresource(
        &self,
        asked: &Asked,
        target: Target,
        name: &str,
        body: Incoming,
    ) -> Result<Response<Body>, Status> {
        let version = target.resource.version(&target.version).ok_or_else(errors::unknown_path)?;
        if let Some(refusal) = unserved(&target, name) {
            self.ops.get(&target)?;
            return Err(refusal);
        }
        let known = match name {
            "status" => version.status,
            "scale" => version.scale.is_some(),
            other => target.resource.extra.contains(&other),
        };
        if !known {
            return Err(errors::unknown_path());
        }
        match (name, asked.method.as_str()) {
            ("log", "GET") => self.log(&target, &asked.query).await,
            ("binding", "POST") => {
                let binding = body::object(&asked.headers, &body::read(body).await?)?;
                self.ops.bind(target, binding, asked.options()?).await?;
                Ok(success(StatusCode::CREATED))
            }
            ("eviction", "POST") => self.evict(asked, target, body).await,
            ("token", "POST") => {
                let request = body::object(&asked.headers, &body::read(body).await?)?;
                Ok(reply::json(StatusCode::CREATED, &self.issue_token(&target, request)?))
            }
            ("scale", "GET") => Ok(reply::json(StatusCode::OK, &self.get_scale(&target)?)),
            ("scale", "PUT" | "PATCH") => self.scale(asked, target, body).await,
            ("log" | "binding" | "eviction" | "token", _) => Err(errors::method_not_allowed()),
            (_, "GET") => self.get(&target, asked.shape()),
            (_, "PUT" | "PATCH") => {
                let mut target = target;
                // An approval of a certificate request is kept in its status.
                if name == "approval" {
                    target.subresource = Some("status".to_owned());
                }
                self.change(asked, target, body).await
            }
            _ => Err(errors::method_not_allowed()),
        }
    }

    async fn scale(&self, asked: &Asked, target: Target, body: Incoming) -> Result<Response<Body>, Status> {
        let bytes = body::read(body).await?;
        let wish = if asked.method == Method::PUT {
            ScaleWish::Whole(body::object(&asked.headers, &bytes)?)
        } else {
            ScaleWish::Patch(body::patch(&asked.headers, &bytes, false)?)
        };
        Ok(reply::json(StatusCode::OK, &self.set_scale(target, wish, asked.options()?).await?))
    }

    async fn create(&self, asked: &Asked, target: Target, body: Incoming) -> Result<Response<Body>, Status> {
        if target.resource.namespaced && target.namespace.is_none() {
            return Err(errors::method_not_allowed());
        }
        let object = body::object(&asked.headers, &body::read(body).await?)?;
        let outcome = self.ops.create(target.clone(), object, asked.options()?).await?;
        self.outcome(asked, &target, &outcome)
    }

    async fn change(&self, asked: &Asked, target: Target, body: Incoming) -> Result<Response<Body>, Status> {
        let bytes = body::read(body).await?;
        let options = asked.options()?;
        let outcome = if asked.method == Method::PUT {
            let object = body::object(&asked.headers, &bytes)?;
            self.ops.update(target.clone(), object, options).await?
        } else {
            let patch = body::patch(&asked.headers, &bytes, asked.query.is_true("force"))?;
            if matches!(patch, Patch::Apply { .. }) && asked.query.get("fieldManager").is_empty() {
                return Err(Status::failure(
                    422,
                    "Invalid",
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            self.ops.patch(target.clone(), patch, options).await?
        };
        self.outcome(asked, &target, &outcome)
    }

    fn outcome(
        &self,
        asked: &Asked,
        target: &Target,
        outcome: &super::ops::Outcome,
    ) -> Result<Response<Body>, Status> {
        let version = target.resource.version(&target.version).ok_or_else(errors::unknown_path)?;
        let code = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
        let body = reply::shaped(&target.resource, version, asked.shape(), &outcome.object);
        let mut response = reply::bytes(code, body);
        reply::warn(&mut response, &outcome.warnings);
        if let Some(text) = &version.deprecated {
            reply::warn(&mut response, std::slice::from_ref(text));
        }
        Ok(response)
    }

    async fn delete(&self, asked: &Asked, target: Target, body: Incoming) -> Result<Response<Body>, Status> {
        let options = delete_options(asked, &body::read(body).await?)?;
        let resource = target.resource.clone();
        let (name, version) = (target.name.clone(), target.version.clone());
        match self.ops.delete(target, options).await? {
            Removed::Gone(object) if !(resource.group.is_empty() && resource.plural == "pods") => {
                let mut details =
                    json!({"name": name, "kind": resource.plural, "uid": object["metadata"]["uid"]});
                if !resource.group.is_empty() {
                    details["group"] = json!(resource.group);
                }
                Ok(reply::json(
                    StatusCode::OK,
                    &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                        "details": details}),
                ))
            }
            Removed::Gone(object) | Removed::Pending(object) => {
                let object = super::ops::present(&resource, &version, &object);
                Ok(reply::json(StatusCode::OK, &object))
            }
        }
    }

    async fn evict(&self, asked: &Asked, target: Target, body: Incoming) -> Result<Response<Body>, Status> {
        let eviction = body::object(&asked.headers, &body::read(body).await?)?;
        let options = eviction["deleteOptions"].to_string();
        let options = delete_options(asked, options.as_bytes())?;
        self.ops.delete(target, options).await?;
        Ok(success(StatusCode::CREATED))
    }

    async fn delete_collection(
        &self,
        asked: &Asked,
        target: Target,
        body: Incoming,
    ) -> Result<Response<Body>, Status> {
        let whole_cluster = target.resource.namespaced && target.namespace.is_none();
        let is_namespaces = target.resource.group.is_empty() && target.resource.plural == "namespaces";
        if whole_cluster || is_namespaces {
            return Err(errors::method_not_allowed());
        }
        let options = delete_options(asked, &body::read(body).await?)?;
        let filter = read::filter(&target, &asked.query)?;
        let collection = &target.resource.collection;
        let (all, _) = self.ops.store.list(collection, target.namespace.as_deref());
        let keys = all
            .iter()
            .filter(|object| filter.matches(object))
            .map(|object| {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or("");
                Key::new(collection, Some(text("namespace")), text("name"))
            })
            .collect();
        self.ops.delete_all(target.resource.clone(), keys, options).await?;
        Ok(success(StatusCode::OK))
    }

    /// Paths that are no resources.
    async fn plain(&self, asked: &Asked) -> Result<Response<Body>, Status> {
        let verb = asked.method.as_str().to_lowercase();
        let want = Attributes { verb, path: Some(asked.path.clone()), ..Attributes::default() };
        if !rbac::may(&self.ops.store, &asked.user, &want) {
            let message = format!("forbidden: {}", want.refusal(&asked.user));
            let mut status = Status::failure(403, "Forbidden", message);
            status.details = Some(json!({}));
            return Err(status);
        }
        if asked.method != Method::GET && asked.method != Method::HEAD {
            return Err(errors::unknown_path());
        }
        self.document(asked).await
    }
}

/// What people try on pods, nodes and services that this API does not do; a plain 404 would not tell them.
fn unserved(target: &Target, subresource: &str) -> Option<Status> {
    let plural = target.resource.plural.as_str();
    let core = target.resource.group.is_empty();
    let what = match (plural, subresource) {
        ("pods" | "services" | "nodes", "proxy") => {
            "the proxy to pods and services, and to a node without a path behind it,"
        }
        _ => return None,
    };
    let message = format!("{what} is not supported by kedge's embedded Kubernetes API");
    core.then(|| Status::failure(501, "NotImplemented", message))
}

fn success(code: StatusCode) -> Response<Body> {
    reply::json(code, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
}

/// Options of a deletion from the body and, where that says nothing, from the query.
fn delete_options(asked: &Asked, body: &[u8]) -> Result<DeleteOptions, Status> {
    let options = if body.is_empty() { Value::Null } else { body::object(&asked.headers, body)? };
    let text = |field: &str| {
        options[field].as_str().map(str::to_owned).or_else(|| {
            let value = asked.query.get(field);
            (!value.is_empty()).then(|| value.to_owned())
        })
    };
    let propagation = match text("propagationPolicy").as_deref() {
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Background") => Some(Propagation::Background),
        None if options["orphanDependents"] == true => Some(Propagation::Orphan),
        None => None,
        Some(other) => {
            return Err(errors::bad_request(format!(
                "invalid DeleteOptions: propagationPolicy: Unsupported value: \"{other}\""
            )));
        }
    };
    let precondition =
        |field: &str| options["preconditions"][field].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let listed = options["dryRun"].as_array().is_some_and(|all| all.iter().any(|item| item == "All"));
    Ok(DeleteOptions {
        deletion: Deletion {
            grace: options["gracePeriodSeconds"]
                .as_i64()
                .or_else(|| asked.query.number("gracePeriodSeconds")),
            uid: precondition("uid"),
            propagation,
        },
        resource_version: precondition("resourceVersion"),
        dry_run: listed || dry_run(asked.query.get("dryRun"))?,
    })
}
