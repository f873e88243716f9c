//! What a request addresses: its path, its query, the forms of answer it accepts. Pure.

use crate::daemon::apiserver::table::Include;
use std::collections::HashMap;

/// A path below `/api/v1` or `/apis/{group}/{version}` that names a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    pub group: String,
    pub version: String,
    pub namespace: Option<String>,
    pub plural: String,
    pub name: Option<String>,
    pub subresource: Option<String>,
    /// What stands behind `proxy`, as it was sent.
    pub beyond: Option<String>,
}

/// Reads a resource path; `None` for anything else, such as discovery.
pub fn resource(path: &str) -> Option<ResourcePath> {
    // Behind the proxy begins a path of somebody else's.
    if let Some((node, beyond)) =
        path.strip_prefix("/api/v1/nodes/").and_then(|rest| rest.split_once("/proxy/"))
    {
        if node.contains('/') {
            return None;
        }
        let found = resource(&format!("/api/v1/nodes/{node}/proxy"))?;
        return Some(ResourcePath { beyond: Some(format!("/{beyond}")), ..found });
    }
    let mut parts: Vec<String> = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        let part = decode(part, false)?;
        if part.is_empty() {
            return None;
        }
        parts.push(part);
    }
    let mut parts = parts.into_iter();
    let (group, version) = match parts.next()?.as_str() {
        "api" => (String::new(), parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let rest: Vec<String> = parts.collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let own = |text: &&str| Some((*text).to_owned());
    let (namespace, plural, tail) = match rest.as_slice() {
        [] => return None,
        // A namespace's own subresource looks like a collection in it.
        ["namespaces", _, "status" | "finalize"] => (None, "namespaces", rest.get(1..)?),
        ["namespaces", namespace, plural, tail @ ..] => (own(namespace), *plural, tail),
        [plural, tail @ ..] => (None, *plural, tail),
    };
    let (name, subresource) = match tail {
        [] => (None, None),
        [name] => (own(name), None),
        [name, subresource] => (own(name), own(subresource)),
        _ => return None,
    };
    Some(ResourcePath {
        group,
        version,
        namespace,
        plural: plural.to_owned(),
        name,
        subresource,
        beyond: None,
    })
}

fn decode(text: &str, form: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
                out.push(u8::try_from(value).ok()?);
            }
            b'+' if form => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub struct Query(HashMap<String, Vec<String>>);

impl Query {
    pub fn parse(text: &str) -> Option<Query> {
        let mut pairs: HashMap<String, Vec<String>> = HashMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.entry(decode(key, true)?).or_default().push(decode(value, true)?);
        }
        Some(Query(pairs))
    }

    /// A parameter, empty when absent.
    pub fn get(&self, name: &str) -> &str {
        self.all(name).first().map_or("", String::as_str)
    }

    /// All values of a parameter that may come several times.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).parse().ok()
    }
}

/// The form in which objects are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Whole,
    Table(Include),
    Metadata,
}

/// The form that an `Accept` header asks for; forms that are not served are skipped.
pub fn shape(accept: &str) -> Shape {
    for media in accept.split(',') {
        let mut parts = media.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "*/*" | "application/*")) {
            continue;
        }
        let named = parts.find_map(|part| part.strip_prefix("as="));
        match named {
            None => return Shape::Whole,
            Some("Table") if media.contains("v=v1;") || media.trim_end().ends_with("v=v1") => {
                return Shape::Table(Include::Metadata);
            }
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Shape::Metadata,
            Some(_) => {}
        }
    }
    Shape::Whole
}

/// The `includeObject` parameter of tables.
pub fn include(text: &str) -> Include {
    match text {
        "None" => Include::None,
        "Object" => Include::Object,
        _ => Include::Metadata,
    }
}

/// Whether aggregated discovery is asked for, and in which version.
pub fn aggregated(accept: &str) -> Option<&'static str> {
    let asked = |version: &str| {
        accept.split(',').any(|media| {
            media.contains("g=apidiscovery.k8s.io")
                && media.contains("as=APIGroupDiscoveryList")
                && media.split(';').any(|part| part.trim() == format!("v={version}"))
        })
    };
    ["v2", "v2beta1"].into_iter().find(|version| asked(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources() {
        let path = resource("/api/v1/namespaces/default/pods/a/log").unwrap();
        assert_eq!((path.plural.as_str(), path.namespace.as_deref()), ("pods", Some("default")));
        assert_eq!(path.subresource.as_deref(), Some("log"));
        let path = resource("/api/v1/namespaces/x/finalize").unwrap();
        assert_eq!((path.plural.as_str(), path.name.as_deref()), ("namespaces", Some("x")));
        let path = resource("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Adiscovery").unwrap();
        assert_eq!(path.name.as_deref(), Some("system:discovery"));
        for other in ["/api", "/api/v1", "/apis/apps/v1", "/version", "/api/v1/a/b/c/d/e/f", "/api/v1//pods"]
        {
            assert_eq!(resource(other), None, "{other}");
        }
    }

    #[test]
    fn accept_headers_choose_the_shape() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
            application/json";
        assert_eq!(shape(kubectl), Shape::Table(Include::Metadata));
        assert_eq!(shape("application/vnd.kubernetes.protobuf,application/json"), Shape::Whole);
        assert_eq!(
            shape("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Shape::Metadata
        );
        assert_eq!(
            aggregated("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
            Some("v2")
        );
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=true&x=1+2").unwrap();
        assert_eq!((query.get("labelSelector"), query.get("x")), ("a=b,c", "1 2"));
        assert!(query.is_true("watch") && query.get("none").is_empty());
        assert!(Query::parse("a=%zz").is_none());
    }
}
