//! Rules and their endpoints, resolved into routes (resources.md §7, protocol.md §9). Pure: objects in, routes and the
//! wishes of nodes out. A rule whose endpoints are missing or do not fit together has no route.

use super::super::super::kubernetes::meta;
use crate::model::NodeName;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Namespace and name.
pub(super) type Id = (String, String);

/// Where messages of a rule come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Requests for `/{node}/{namespace}/{path}`; the path's segments.
    Rest { path: String },
    /// Messages that the node publishes on this topic, which begins with the namespace.
    Topic { node: NodeName, topic: String },
    /// Calls of programs on the node for this URL.
    Url { node: NodeName, url: String },
}

/// Where messages of a rule go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Rest { url: String },
    Topic { topic: String },
    Service { port: u16, path: String },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub id: Id,
    pub source: Source,
    pub target: Target,
}

/// What a node must listen to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    Topic(String),
    Url(String),
}

/// The objects as the API has them.
#[derive(Default)]
pub(super) struct Book {
    endpoints: HashMap<Id, Value>,
    rules: BTreeMap<Id, Value>,
}

/// Which of the two kinds an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rule,
    Endpoint,
}

fn id(object: &Value) -> Id {
    (meta(object, "namespace").to_owned(), meta(object, "name").to_owned())
}

impl Book {
    /// Keeps an object's spec; `false` when it is as it was, as after a change of a rule's status.
    pub(super) fn put(&mut self, kind: Kind, object: &Value) -> bool {
        let spec = object.get("spec").cloned().unwrap_or_default();
        let before = match kind {
            Kind::Rule => self.rules.insert(id(object), spec.clone()),
            Kind::Endpoint => self.endpoints.insert(id(object), spec.clone()),
        };
        before.as_ref() != Some(&spec)
    }

    pub(super) fn remove(&mut self, kind: Kind, object: &Value) {
        match kind {
            Kind::Rule => drop(self.rules.remove(&id(object))),
            Kind::Endpoint => drop(self.endpoints.remove(&id(object))),
        }
    }

    /// Forgets all objects of a kind: a list begins.
    pub(super) fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::Rule => self.rules.clear(),
            Kind::Endpoint => self.endpoints.clear(),
        }
    }

    /// The routes, and why the other rules have none.
    pub(super) fn table(&self) -> (Table, Vec<(Id, &'static str)>) {
        let (mut table, mut useless) = (Table::default(), Vec::new());
        for (id, spec) in &self.rules {
            match self.route(id, spec) {
                Ok(route) => table.add(Arc::new(route)),
                Err(why) => useless.push((id.clone(), why)),
            }
        }
        (table, useless)
    }

    fn endpoint(&self, namespace: &str, name: &Value) -> Option<&Value> {
        self.endpoints.get(&(namespace.to_owned(), name.as_str()?.to_owned()))
    }

    fn route(&self, id: &Id, spec: &Value) -> Result<Route, &'static str> {
        let namespace = id.0.as_str();
        let end = |field| self.endpoint(namespace, spec.get(field).unwrap_or(&Value::Null));
        let source_end = end("source").ok_or("its source does not exist")?;
        let target_end = end("target").ok_or("its target does not exist")?;
        let source = source(namespace, kind(source_end), spec.get("sourceResource"))?;
        let target = target(target_end, spec.get("targetResource"))?;
        let fits = matches!(
            (&source, &target),
            (Source::Rest { .. }, Target::Topic { .. } | Target::Service { .. })
                | (Source::Topic { .. } | Source::Url { .. }, Target::Rest { .. })
        );
        if fits {
            Ok(Route { id: id.clone(), source, target })
        } else {
            Err("its source and its target do not fit together")
        }
    }
}

fn kind(endpoint: &Value) -> &str {
    endpoint.get("ruleEndpointType").and_then(Value::as_str).unwrap_or_default()
}

fn source(namespace: &str, kind: &str, resource: Option<&Value>) -> Result<Source, &'static str> {
    let text = |key: &str| {
        resource.and_then(|map| map.get(key)).and_then(Value::as_str).filter(|text| !text.is_empty())
    };
    let node = || {
        let name = text("node_name").ok_or("its source has no node_name")?;
        NodeName::new(name).map_err(|_| "its node_name is not a node's name")
    };
    match kind {
        "rest" => {
            let path = text("path").ok_or("its source has no path")?.trim_matches('/').to_owned();
            Ok(Source::Rest { path })
        }
        "eventbus" => {
            let topic = text("topic").ok_or("its source has no topic")?;
            Ok(Source::Topic { node: node()?, topic: rule_topic(namespace, topic)? })
        }
        "servicebus" => {
            let url = text("target_url").ok_or("its source has no target_url")?.to_owned();
            Ok(Source::Url { node: node()?, url })
        }
        _ => Err("its source is of an unknown type"),
    }
}

fn target(endpoint: &Value, resource: Option<&Value>) -> Result<Target, &'static str> {
    let text = |key: &str| {
        resource.and_then(|map| map.get(key)).and_then(Value::as_str).filter(|text| !text.is_empty())
    };
    match kind(endpoint) {
        "rest" => Ok(Target::Rest { url: text("resource").ok_or("its target has no resource")?.to_owned() }),
        "eventbus" => Ok(Target::Topic { topic: text("topic").ok_or("its target has no topic")?.to_owned() }),
        "servicebus" => {
            let port = endpoint.pointer("/properties/service_port").and_then(Value::as_str);
            let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            let path = text("path").ok_or("its target has no path")?.to_owned();
            Ok(Target::Service { port: port.ok_or("its target has no service_port")?, path })
        }
        _ => Err("its target is of an unknown type"),
    }
}

/// The topic as a node knows it: namespace and topic without empty levels. Levels of dots would climb out of the namespace.
fn rule_topic(namespace: &str, topic: &str) -> Result<String, &'static str> {
    let levels: Vec<&str> = topic.split('/').filter(|level| !level.is_empty()).collect();
    if levels.iter().any(|level| matches!(*level, "." | "..")) {
        return Err("its topic has a level of dots");
    }
    Ok(format!("{namespace}/{}", levels.join("/")))
}

/// Routes by what sets them off.
#[derive(Default)]
pub(super) struct Table {
    rest: Vec<Arc<Route>>,
    uploads: BTreeMap<(NodeName, Wish), Arc<Route>>,
}

impl Table {
    fn add(&mut self, route: Arc<Route>) {
        match &route.source {
            Source::Rest { .. } => self.rest.push(route),
            Source::Topic { node, topic } => {
                self.uploads.entry((node.clone(), Wish::Topic(topic.clone()))).or_insert(route);
            }
            Source::Url { node, url } => {
                self.uploads.entry((node.clone(), Wish::Url(url.clone()))).or_insert(route);
            }
        }
    }

    /// The route of an upload.
    pub(super) fn upload(&self, node: &NodeName, wish: Wish) -> Option<Arc<Route>> {
        self.uploads.get(&(node.clone(), wish)).cloned()
    }

    /// What nodes must listen to.
    pub(super) fn wishes(&self) -> BTreeSet<(NodeName, Wish)> {
        self.uploads.keys().cloned().collect()
    }

    /// The route of a request by its URI, `/{node}/{namespace}/{path…}`, and what of the URI stands behind the rule's path.
    /// The longest path wins, a literal segment before a `{parameter}`.
    pub(super) fn request(&self, uri: &str) -> Option<(Arc<Route>, String, String)> {
        let mut parts = uri.strip_prefix('/')?.splitn(3, '/');
        let (node, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let path = rest.split('?').next().unwrap_or_default();
        let found = self.rest.iter().filter(|route| route.id.0 == namespace).filter_map(|route| {
            let Source::Rest { path: wanted } = &route.source else { return None };
            Some((rank(wanted, path)?, route, wanted))
        });
        let (_, route, wanted) = found.max_by_key(|(rank, ..)| *rank)?;
        let param = rest.strip_prefix(wanted.as_str()).unwrap_or(rest).to_owned();
        Some((route.clone(), node.to_owned(), param))
    }
}

/// How well a rule's path covers a request's path: segments, then literal ones; `None` when it does not.
fn rank(wanted: &str, path: &str) -> Option<(usize, usize)> {
    let mut segments = path.split('/');
    let (mut all, mut literal) = (0, 0);
    for part in wanted.split('/').filter(|part| !part.is_empty()) {
        let segment = segments.next().filter(|segment| !segment.is_empty())?;
        if part == segment {
            literal += 1;
        } else if !(part.starts_with('{') && part.ends_with('}')) {
            return None;
        }
        all += 1;
    }
    Some((all, literal))
}

/// A target's path or topic with what stood behind the rule's path, joined as KubeEdge joins them.
pub(super) fn with_param(base: &str, param: &str) -> String {
    if param.is_empty() {
        return base.to_owned();
    }
    format!("{}/{}", base.trim_end_matches('/'), param.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn endpoint(book: &mut Book, name: &str, kind: &str, properties: Value) {
        let spec = json!({"ruleEndpointType": kind, "properties": properties});
        book.put(Kind::Endpoint, &json!({"metadata": {"namespace": "d", "name": name}, "spec": spec}));
    }

    fn rule(book: &mut Book, name: &str, source: (&str, Value), target: (&str, Value)) {
        let spec = json!({"source": source.0, "sourceResource": source.1, "target": target.0, "targetResource": target.1});
        book.put(Kind::Rule, &json!({"metadata": {"namespace": "d", "name": name}, "spec": spec}));
    }

    fn book() -> Book {
        let mut book = Book::default();
        endpoint(&mut book, "rest", "rest", json!({}));
        endpoint(&mut book, "bus", "eventbus", json!({}));
        endpoint(&mut book, "service", "servicebus", json!({"service_port": "8080"}));
        book
    }

    #[test]
    fn requests_find_the_longest_path_of_their_namespace() {
        let mut book = book();
        rule(&mut book, "short", ("rest", json!({"path": "/a"})), ("bus", json!({"topic": "t"})));
        rule(&mut book, "long", ("rest", json!({"path": "/a/b/"})), ("service", json!({"path": "/x"})));
        rule(&mut book, "any", ("rest", json!({"path": "a/{id}"})), ("bus", json!({"topic": "t"})));
        let (table, useless) = book.table();
        assert!(useless.is_empty());
        let found =
            |uri: &str| table.request(uri).map(|(route, node, param)| (route.id.1.clone(), node, param));
        let is = |name: &str, param: &str| Some((name.to_owned(), "n".to_owned(), param.to_owned()));
        assert_eq!(found("/n/d/a"), is("short", ""));
        assert_eq!(found("/n/d/a/b/c?x=1"), is("long", "/c?x=1"));
        assert_eq!(found("/n/d/a/7"), is("any", "a/7"));
        for none in ["/n/other/a", "/n/d/ab", "/n/d", "/", "", "/n/d/", "/x/n/d/a"] {
            assert_eq!(found(none), None, "{none}");
        }
        assert_eq!(with_param("/x/", "/c?x=1"), "/x/c?x=1");
    }

    #[test]
    fn rules_that_cannot_work_say_why_and_have_no_route() {
        let mut book = book();
        let node = "node_name";
        rule(&mut book, "a", ("nobody", json!({})), ("rest", json!({"resource": "http://x"})));
        rule(&mut book, "b", ("bus", json!({"topic": "t", node: "n"})), ("bus", json!({"topic": "t"})));
        rule(
            &mut book,
            "c",
            ("bus", json!({"topic": "../e/t", node: "n"})),
            ("rest", json!({"resource": "http://x"})),
        );
        rule(
            &mut book,
            "d",
            ("bus", json!({"topic": "t", node: "No"})),
            ("rest", json!({"resource": "http://x"})),
        );
        rule(
            &mut book,
            "e",
            ("bus", json!({"topic": "/t//u", node: "n"})),
            ("rest", json!({"resource": "http://x"})),
        );
        let (table, useless) = book.table();
        let whys: Vec<&str> = useless.iter().map(|(_, why)| *why).collect();
        assert_eq!(whys[0], "its source does not exist");
        assert_eq!(whys[1], "its source and its target do not fit together");
        assert_eq!(whys[2], "its topic has a level of dots");
        assert_eq!(whys[3], "its node_name is not a node's name");
        let n = NodeName::new("n").unwrap();
        assert_eq!(
            table.wishes().into_iter().collect::<Vec<_>>(),
            [(n.clone(), Wish::Topic("d/t/u".to_owned()))]
        );
        assert!(table.upload(&n, Wish::Topic("d/t".to_owned())).is_none());
    }

    proptest! {
        #[test]
        fn any_uri_and_any_path_are_matched_without_panic(uri in "[/a-c{}?%.]{0,20}", path in "[/a-c{}]{0,10}") {
            let mut book = book();
            rule(&mut book, "r", ("rest", json!({"path": path})), ("bus", json!({"topic": "t"})));
            drop(book.table().0.request(&uri));
        }
    }
}
