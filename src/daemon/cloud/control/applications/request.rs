//! What a request of a node's local API becomes at the Kubernetes API: method, path, body. Pure.

use crate::daemon::cloud::kubernetes::path_of;
use crate::model::Status;
use crate::wire::Blob;
use crate::wire::dynamic::{AppPatch, AppResource, AppTarget, AppVerb, Application};
use http::Method;
use serde_json::{Value, json};

/// A request that is ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub method: Method,
    pub path: String,
    pub content: Option<(&'static str, Vec<u8>)>,
    /// Whether the answer goes to the node; that of a deletion does not.
    pub answered: bool,
}

const JSON: &str = "application/json";
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Options of Kubernetes that go into the query, by verb.
const READ: [&str; 6] =
    ["labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch"];
const WRITE: [&str; 4] = ["dryRun", "fieldManager", "fieldValidation", "force"];

fn bad(why: &str) -> Status {
    Status::failure(400, "BadRequest", why)
}

fn options(app: &Application) -> Result<Value, Status> {
    match &app.option {
        Some(Blob(bytes)) if !bytes.is_empty() => {
            serde_json::from_slice(bytes).map_err(|_| bad("the options are not JSON"))
        }
        _ => Ok(Value::Null),
    }
}

fn body(app: &Application) -> Result<(Value, Vec<u8>), Status> {
    let bytes = app.req_body.as_ref().map(|blob| blob.0.clone()).unwrap_or_default();
    let object = serde_json::from_slice(&bytes).map_err(|_| bad("the object is not JSON"))?;
    Ok((object, bytes))
}

fn query(path: &mut String, options: &Value, names: &[&str]) {
    for name in names {
        let texts: Vec<String> = match &options[*name] {
            Value::String(text) if !text.is_empty() => vec![text.clone()],
            Value::Number(number) if number.as_u64() != Some(0) => vec![number.to_string()],
            Value::Bool(true) => vec!["true".to_owned()],
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        for text in texts {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(name);
            path.push('=');
            crate::daemon::cloud::kubernetes::segment(path, &text);
        }
    }
}

fn named<'a>(resource: &'a AppResource, object: &'a Value) -> Result<&'a str, Status> {
    let inside = object.pointer("/metadata/name").and_then(Value::as_str).filter(|name| !name.is_empty());
    resource.name.as_deref().or(inside).ok_or_else(|| bad("the object's name is missing"))
}

/// Reads an application; watches become the list with which they begin.
pub(super) fn read(app: &Application) -> Result<Wanted, Status> {
    let resource = match app.target() {
        Some(AppTarget::Resource(resource)) => resource,
        Some(AppTarget::Path(path)) => {
            return Ok(Wanted { method: Method::GET, path, content: None, answered: true });
        }
        None => return Err(bad("the key names nothing that can be asked for")),
    };
    let below = Some(app.subresource.as_str()).filter(|below| !below.is_empty());
    let at = |name: Option<&str>, below: Option<&str>| {
        let place = (resource.namespace.as_deref(), name, below);
        path_of((&resource.group, &resource.version, &resource.plural), place)
    };
    let options = options(app)?;
    let (method, mut path, content, names): (_, _, _, &[&str]) = match &app.verb {
        AppVerb::Get => {
            let name = named(&resource, &Value::Null)?;
            (Method::GET, at(Some(name), below), None, &["resourceVersion"])
        }
        AppVerb::List | AppVerb::Watch => (Method::GET, at(None, None), None, &READ),
        AppVerb::Create => {
            let (object, bytes) = body(app)?;
            let name = if below.is_some() { Some(named(&resource, &object)?) } else { None };
            (Method::POST, at(name, below), Some((JSON, bytes)), &WRITE)
        }
        AppVerb::Update | AppVerb::UpdateStatus => {
            let (object, bytes) = body(app)?;
            let below = if app.verb == AppVerb::UpdateStatus { Some("status") } else { below };
            (Method::PUT, at(Some(named(&resource, &object)?), below), Some((JSON, bytes)), &WRITE)
        }
        AppVerb::Patch => return patch(&options, at),
        AppVerb::Delete => {
            let mut wanted = if options.is_object() { options.clone() } else { json!({}) };
            wanted["apiVersion"] = json!("v1");
            wanted["kind"] = json!("DeleteOptions");
            let bytes = wanted.to_string().into_bytes();
            (Method::DELETE, at(Some(named(&resource, &Value::Null)?), below), Some((JSON, bytes)), &[])
        }
        AppVerb::Other(_) => return Err(bad("the verb is unknown")),
    };
    query(&mut path, &options, names);
    let answered = !matches!(app.verb, AppVerb::Delete | AppVerb::Watch);
    Ok(Wanted { method, path, content, answered })
}

fn patch(options: &Value, at: impl Fn(Option<&str>, Option<&str>) -> String) -> Result<Wanted, Status> {
    let patch: AppPatch =
        serde_json::from_value(options.clone()).map_err(|_| bad("the patch cannot be read"))?;
    let kind = PATCHES.into_iter().find(|kind| *kind == patch.patch_type);
    let kind = kind.ok_or_else(|| bad("the patch's type is unknown"))?;
    if patch.name.is_empty() {
        return Err(bad("the object's name is missing"));
    }
    let below = patch.subresources.first().map(String::as_str).filter(|below| !below.is_empty());
    let mut path = at(Some(&patch.name), below);
    query(&mut path, &patch.options, &WRITE);
    Ok(Wanted { method: Method::PATCH, path, content: Some((kind, patch.data.0)), answered: true })
}

/// The API's own address as programs on the node have to see it: their local API stands in for it (protocol.md §4.6).
pub(super) fn localise(answer: &mut Value) {
    if let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut) {
        for item in items {
            localise_slice(item);
        }
    } else {
        localise_slice(answer);
    }
}

fn localise_slice(object: &mut Value) {
    let metadata = &object["metadata"];
    let own = metadata["name"] == "kubernetes" && metadata["namespace"] == "default";
    if !own || !object["endpoints"].is_array() {
        return;
    }
    for endpoint in object["endpoints"].as_array_mut().into_iter().flatten() {
        if endpoint.is_object() {
            endpoint["addresses"] = json!(["127.0.0.1"]);
        }
    }
    for port in object["ports"].as_array_mut().into_iter().flatten() {
        if port["name"] == "https" {
            port["port"] = json!(10550);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(key: &str, verb: AppVerb, option: Value, body: Option<Value>) -> Application {
        let mut app = Application::new("n", key.to_owned(), verb, Some(option.to_string().into_bytes()));
        app.req_body = body.map(|body| Blob(body.to_string().into_bytes()));
        app
    }

    fn line(app: &Application) -> String {
        let wanted = read(app).unwrap();
        format!("{} {}", wanted.method, wanted.path)
    }

    #[test]
    fn requests_follow_the_grammar_of_the_api() {
        let pods = "/core/v1/pods/default/null";
        let list = app(pods, AppVerb::List, json!({"labelSelector": "a in (b,c)", "limit": 5}), None);
        assert_eq!(
            line(&list),
            "GET /api/v1/namespaces/default/pods?labelSelector=a%20in%20%28b%2Cc%29&limit=5"
        );
        let get = app("/apps/v1/deployments/x/d", AppVerb::Get, json!({}), None);
        assert_eq!(line(&get), "GET /apis/apps/v1/namespaces/x/deployments/d");
        let object = json!({"metadata": {"name": "c"}});
        let maps = "/core/v1/configmaps/x/null";
        let create = app(maps, AppVerb::Create, json!({"dryRun": ["All"]}), Some(object.clone()));
        assert_eq!(line(&create), "POST /api/v1/namespaces/x/configmaps?dryRun=All");
        let update = app(maps, AppVerb::UpdateStatus, Value::Null, Some(object));
        assert_eq!(line(&update), "PUT /api/v1/namespaces/x/configmaps/c/status");
        let patch = json!({"Name": "c", "PatchType": "application/merge-patch+json", "Data": "e30=",
            "Options": {"force": true}, "Subresources": [""]});
        let patch = app(maps, AppVerb::Patch, patch, None);
        assert_eq!(line(&patch), "PATCH /api/v1/namespaces/x/configmaps/c?force=true");
        assert_eq!(read(&patch).unwrap().content, Some((PATCHES[1], b"{}".to_vec())));
        let delete = app("/core/v1/nodes/null/n", AppVerb::Delete, json!({"gracePeriodSeconds": 1}), None);
        assert_eq!(line(&delete), "DELETE /api/v1/nodes/n");
        assert!(!read(&delete).unwrap().answered);
        assert_eq!(line(&app("/version", AppVerb::Get, Value::Null, None)), "GET /version");
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let refused = [
            app("/core/v1/pods/default/null", AppVerb::Get, Value::Null, None),
            app("/core/v1/pods/default/p", AppVerb::Other("dance".to_owned()), Value::Null, None),
            app("/core/v1/pods/default/null", AppVerb::Create, Value::Null, None),
            app("/core/v1/pods/default/p", AppVerb::Patch, json!({"Name": "p", "PatchType": "x"}), None),
            app("/logs/x", AppVerb::Get, Value::Null, None),
            app("", AppVerb::List, Value::Null, None),
        ];
        for app in refused {
            assert_eq!(read(&app).unwrap_err().code, 400, "{app:?}");
        }
        let hostile = app("/core/v1/pods/a%2f..%2fb/..", AppVerb::Get, Value::Null, None);
        assert_eq!(line(&hostile), "GET /api/v1/namespaces/a%252f..%252fb/pods/%2E%2E");
    }

    #[test]
    fn the_apis_own_address_is_the_nodes() {
        let slice = json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "https", "port": 6443}]});
        let mut list = json!({"items": [slice, {"metadata": {"name": "a"}, "endpoints": []}]});
        localise(&mut list);
        assert_eq!(list["items"][0]["endpoints"][0]["addresses"], json!(["127.0.0.1"]));
        assert_eq!(list["items"][0]["ports"][0]["port"], 10550);
    }
}
