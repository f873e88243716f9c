//! Paths that describe the API: discovery, OpenAPI, version, health, the key set of tokens.

use super::{Api, Asked, discovery, path, reply};
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::local::Collection;
use crate::daemon::apiserver::openapi;
use crate::host::facts::architecture;
use crate::link::http::{Body, text};
use crate::model::Status;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;

const DEFINITIONS: Collection = Collection::of("apiextensions.k8s.io", "customresourcedefinitions");

fn version() -> Value {
    json!({"major": "1", "minor": "33", "gitVersion": format!("v1.33.0+kedge-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": format!("linux/{}", architecture())})
}

impl Api {
    pub(super) async fn document(&self, asked: &Asked) -> Result<Response<Body>, Status> {
        let trimmed = asked.path.trim_matches('/').to_owned();
        let parts: Vec<&str> = trimmed.split('/').collect();
        let ok = |value: Value| Ok(reply::json(StatusCode::OK, &value));
        match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Ok(text(StatusCode::OK, "ok")),
            ["version"] => ok(version()),
            ["openid", "v1", "jwks"] => ok(self.tokens.key_set()),
            ["openapi", ..] => self.open_api(asked, parts.get(1..).unwrap_or_default()).await,
            ["api" | "apis"] => Ok(self.roots(asked, trimmed == "api")),
            ["api", version] => self.resources("", version),
            ["apis", group] => {
                ok(discovery::group(&self.ops.kinds.catalog(), group).ok_or_else(errors::unknown_path)?)
            }
            ["apis", group, version] => self.resources(group, version),
            [""] => ok(json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2",
                "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]})),
            _ => Err(errors::unknown_path()),
        }
    }

    fn resources(&self, group: &str, version: &str) -> Result<Response<Body>, Status> {
        let list = discovery::resource_list(&self.ops.kinds.catalog(), group, version);
        Ok(reply::json(StatusCode::OK, &list.ok_or_else(errors::unknown_path)?))
    }

    fn roots(&self, asked: &Asked, core: bool) -> Response<Body> {
        let catalog = self.ops.kinds.catalog();
        if let Some(form) = path::aggregated(asked.header(header::ACCEPT)) {
            let mut response = reply::json(StatusCode::OK, &discovery::aggregated(&catalog, core, form));
            let kind = format!("application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList");
            if let Ok(kind) = HeaderValue::from_str(&kind) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            return response;
        }
        let body =
            if core { discovery::core_versions(&self.address) } else { discovery::group_list(&catalog) };
        reply::json(StatusCode::OK, &body)
    }

    /// Documents are large and asked for seldom: they are made when asked, off the runtime, and not kept.
    async fn open_api(&self, asked: &Asked, parts: &[&str]) -> Result<Response<Body>, Status> {
        let (definitions, _) = self.ops.store.list(&DEFINITIONS, None);
        let wanted = match parts {
            ["v2"] if asked.header(header::ACCEPT).contains("proto-openapi.spec.v2") => Document::V2Protobuf,
            ["v2"] => Document::V2,
            ["v3"] => Document::Index,
            ["v3", "api", version] => Document::V3(String::new(), (*version).to_owned()),
            ["v3", "apis", group, version] => Document::V3((*group).to_owned(), (*version).to_owned()),
            _ => return Err(errors::unknown_path()),
        };
        let protobuf = matches!(wanted, Document::V2Protobuf);
        let versions = discovery::group_versions(&self.ops.kinds.catalog());
        let made = tokio::task::spawn_blocking(move || wanted.make(&versions, &definitions)).await;
        let body = made.map_err(|_| errors::internal("the OpenAPI document could not be made"))?;
        let mut response = reply::bytes(StatusCode::OK, body.ok_or_else(errors::unknown_path)?);
        if protobuf {
            let kind = HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        Ok(response)
    }
}

enum Document {
    V2,
    V2Protobuf,
    Index,
    V3(String, String),
}

impl Document {
    fn make(&self, versions: &[String], definitions: &[Arc<Value>]) -> Option<Vec<u8>> {
        let value = match self {
            Document::V2Protobuf => return Some(openapi::v2_protobuf(definitions)),
            Document::V2 => openapi::v2(definitions),
            Document::Index => openapi::v3_index(versions, definitions),
            Document::V3(group, version) => openapi::v3_document(group, version, definitions)?,
        };
        serde_json::to_vec(&value).ok()
    }
}
