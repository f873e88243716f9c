//! Requests that a node's local API has the cloud carry out: KubeEdge's "applications", watches, their events (protocol.md
//! §4.6, §7.3). `up`, `down` and `answer` encode and decode here; what a node may do is for the cloud to judge.

use super::answer::Answer;
use super::blob::Blob;
use super::envelope::Route;
use super::names::*;
use crate::model::{Revision, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Applications by their id.
pub type Applications = BTreeMap<String, Application>;

/// What an application wants; anything unknown is kept as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AppVerb {
    #[default]
    Get,
    List,
    Watch,
    Create,
    Update,
    UpdateStatus,
    Patch,
    Delete,
    Other(String),
}

const VERBS: [(AppVerb, &str); 8] = [
    (AppVerb::Get, "get"),
    (AppVerb::List, "list"),
    (AppVerb::Watch, "watch"),
    (AppVerb::Create, "create"),
    (AppVerb::Update, "update"),
    (AppVerb::UpdateStatus, "updatestatus"),
    (AppVerb::Patch, "patch"),
    (AppVerb::Delete, "delete"),
];

impl From<String> for AppVerb {
    fn from(word: String) -> AppVerb {
        match VERBS.iter().find(|(_, known)| *known == word) {
            Some((verb, _)) => verb.clone(),
            None => AppVerb::Other(word),
        }
    }
}

impl From<AppVerb> for String {
    fn from(verb: AppVerb) -> String {
        verb.as_str().to_owned()
    }
}

impl AppVerb {
    /// KubeEdge's word.
    pub fn as_str(&self) -> &str {
        if let AppVerb::Other(word) = self {
            return word;
        }
        VERBS.iter().find(|(known, _)| known == self).map_or("", |(_, word)| word)
    }
}

const IN_APPLYING: &str = "InApplying";
const APPROVED: &str = "Approved";
const REJECTED: &str = "Rejected";
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A request of a node's local API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Application {
    /// SHA-256 of everything that is asked, in hex.
    #[serde(rename = "ID")]
    pub id: String,
    /// `/{group or core}/{version}/{plural}/{namespace or null}/{name or null}`, or a path to pass through.
    pub key: String,
    pub verb: AppVerb,
    pub nodename: String,
    /// JSON of Kubernetes' options for the verb.
    pub option: Option<Blob>,
    /// JSON of the object.
    pub req_body: Option<Blob>,
    pub subresource: String,
    /// JSON of the result.
    pub resp_body: Option<Blob>,
    pub status: String,
    pub reason: String,
    pub error: AppError,
    pub timestamp: String,
}

impl Default for Application {
    fn default() -> Application {
        Application {
            id: String::new(),
            key: String::new(),
            verb: AppVerb::Get,
            nodename: String::new(),
            option: None,
            req_body: None,
            subresource: String::new(),
            resp_body: None,
            status: IN_APPLYING.to_owned(),
            reason: String::new(),
            error: AppError::default(),
            timestamp: ZERO_TIME.to_owned(),
        }
    }
}

/// Why the API refused; says nothing when all went well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppError {
    #[serde(rename = "ErrStatus")]
    pub status: Status,
}

/// What an application is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppTarget {
    Resource(AppResource),
    /// A discovery path of the API that is read as it is.
    Path(String),
}

/// A resource or a collection of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppResource {
    /// Empty for Kubernetes' core group.
    pub group: String,
    pub version: String,
    pub plural: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

/// KubeEdge's PatchInfo, the option of a patch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AppPatch {
    pub name: String,
    /// The media type of the patch.
    pub patch_type: String,
    pub data: Blob,
    pub options: Value,
    /// One element, empty when there is none.
    pub subresources: Vec<String>,
}

impl Application {
    /// A request under its id.
    pub fn new(node: &str, key: String, verb: AppVerb, option: Option<Vec<u8>>) -> Application {
        let mut app = Application {
            key,
            verb,
            nodename: node.to_owned(),
            option: option.map(Blob),
            ..Application::default()
        };
        app.error.status.metadata = Value::Object(serde_json::Map::new());
        app.id = app.digest();
        app
    }

    /// The id that the request should have.
    pub fn digest(&self) -> String {
        let bytes = |blob: &Option<Blob>| blob.as_ref().map(|blob| blob.0.clone()).unwrap_or_default();
        let mut all = [&self.nodename, &self.key, self.verb.as_str()].concat().into_bytes();
        all.extend(bytes(&self.option));
        all.extend(bytes(&self.req_body));
        all.extend(self.subresource.as_bytes());
        let digest = ring::digest::digest(&ring::digest::SHA256, &all);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What it is about; `None` for a key that names nothing.
    pub fn target(&self) -> Option<AppTarget> {
        let key = self.key.trim_end_matches('/');
        if is_discovery(key) {
            return (self.verb == AppVerb::Get).then(|| AppTarget::Path(key.to_owned()));
        }
        let parts: Vec<&str> = key.split('/').collect();
        let ["", group, version, plural, namespace, name] = *parts.as_slice() else { return None };
        let said = |part: &str| (!part.is_empty() && part != NULL).then(|| part.to_owned());
        Some(AppTarget::Resource(AppResource {
            group: if group == "core" { String::new() } else { group.to_owned() },
            version: said(version)?,
            plural: said(plural)?,
            namespace: said(namespace),
            name: said(name),
        }))
    }

    /// The application as it goes back, approved or rejected. A result that is a text goes as it is, anything else as JSON.
    pub(super) fn answered(mut self, result: Result<Value, Status>) -> Application {
        match result {
            Ok(result) => {
                self.status = APPROVED.to_owned();
                self.resp_body = match result {
                    Value::Null => None,
                    Value::String(text) => Some(Blob(text.into_bytes())),
                    value => Some(Blob(value.to_string().into_bytes())),
                };
            }
            Err(status) => {
                self.status = REJECTED.to_owned();
                if status.code == 0 {
                    self.reason = status.message;
                } else {
                    self.error = AppError { status };
                }
            }
        }
        self
    }

    /// What the cloud made of a request: the result's bytes, none for a watch and a deletion, or why it was refused.
    pub fn outcome(answer: Answer) -> Result<Option<Vec<u8>>, Status> {
        let strange = |message: &str| Status::failure(500, "InternalError", message);
        let content = match answer {
            Answer::Object(content) => content,
            Answer::Failed(status) => return Err(status),
            Answer::Ok | Answer::Text(_) => return Err(strange("the answer is no application")),
        };
        let app: Application =
            serde_json::from_value(content).map_err(|_| strange("the answer is no application"))?;
        match app.status.as_str() {
            APPROVED => Ok(app.resp_body.map(|blob| blob.0)),
            _ if app.error.status.code != 0 => Err(app.error.status),
            _ => Err(strange(if app.reason.is_empty() { "the cloud refuses" } else { &app.reason })),
        }
    }
}

/// Whether a path is one of the API's own descriptions, which anybody may read.
fn is_discovery(path: &str) -> bool {
    const PATHS: [&str; 9] =
        ["/api", "/apis", "/version", "/healthz", "/livez", "/readyz", "/openapi/v2", "/openapi/v3", ""];
    if let Some(at) = PATHS.iter().position(|known| *known == path) {
        return at + 1 < PATHS.len();
    }
    let parts: Vec<&str> = path.split('/').collect();
    let harmless = parts.iter().skip(1).all(|part| !part.is_empty() && *part != "." && *part != "..");
    harmless && matches!(*parts.as_slice(), ["", "api", _] | ["", "apis", _] | ["", "apis", _, _])
}

/// The failed ones of a node's watches, as they go back.
pub(super) fn failed_watches(applications: Applications, result: Result<Value, Status>) -> Applications {
    let failures: BTreeMap<String, Status> = match result {
        Ok(failures) => serde_json::from_value(failures).unwrap_or_default(),
        Err(status) => applications.keys().map(|id| (id.clone(), status.clone())).collect(),
    };
    let failed = |(id, app): (String, Application)| {
        let status = failures.get(&id)?.clone();
        Some((id, app.answered(Err(status))))
    };
    applications.into_iter().filter_map(failed).collect()
}

/// What happened to an object that a node watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Insert,
    Update,
    Delete,
}

/// An event of a watch; needs an acknowledgement.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchEvent {
    pub change: Change,
    pub namespace: Option<String>,
    /// The kind in lower case; it may be one that edges know, and is no order for them even then.
    pub kind: String,
    pub name: String,
    pub revision: Option<Revision>,
    pub object: Value,
}

impl WatchEvent {
    /// `{namespace or null}/{kind}/{name}`.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.namespace.as_deref().unwrap_or(NULL), self.kind, self.name)
    }
}

pub(super) fn change(operation: &str) -> Option<Change> {
    match operation {
        INSERT => Some(Change::Insert),
        UPDATE => Some(Change::Update),
        DELETE => Some(Change::Delete),
        _ => None,
    }
}

pub(super) fn word(change: Change) -> &'static str {
    match change {
        Change::Insert => INSERT,
        Change::Update => UPDATE,
        Change::Delete => DELETE,
    }
}

/// Reads an event; the error is constant text.
pub(super) fn decode_event(
    revision: Option<Revision>,
    route: &Route,
    object: Value,
) -> Result<WatchEvent, &'static str> {
    let change = change(&route.operation).ok_or("unknown operation on a watched object")?;
    let parts: Vec<&str> = route.resource.split('/').collect();
    let [namespace, kind, name] = *parts.as_slice() else { return Err("the path names no object") };
    if namespace.is_empty() || kind.is_empty() || name.is_empty() {
        return Err("the path names no object");
    }
    if !object.is_object() {
        return Err("the content is not an object");
    }
    Ok(WatchEvent {
        change,
        namespace: (namespace != NULL).then(|| namespace.to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
        revision,
        object,
    })
}
