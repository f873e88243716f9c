//! What a former `kedge init` has left of a cloud in the cluster, with what was changed in it since: the next one builds on
//! it. `desk` has it read before anything is looked at; the decisions are pure. It changes nothing.

use super::super::kubernetes::{Resource, meta};
use super::desk::SetupDesk;
use super::manifest::REPLICAS;
use super::review::{is_of_host, label};
use super::{LABEL_MANAGED, MANAGER, NAME, NAMESPACE, default_image};
use crate::base::{Exit, Failure};
use crate::config::survey::is_secret;
use crate::config::yaml;
use serde_json::Value;

/// The key of the ConfigMap under which the configuration stands.
pub(super) const KEY: &str = "cloudcore.yaml";
/// Types of a Service that somebody may have chosen instead of the usual one.
const SERVICES: [&str; 2] = ["NodePort", "LoadBalancer"];
/// The settings that say where nodes reach the cloud.
const ADDRESSES: [&str; 2] = ["modules.cloudHub.advertiseAddress", "modules.cloudHub.dnsNames"];

/// What stands of a cloud.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// cloudcore.yaml as it is now; null where there is none.
    pub document: Value,
    /// Where that stands, for people; empty where there is none.
    pub place: String,
    /// Its very text, in the cluster: one that says the same keeps its comments.
    pub(super) text: String,
    /// The version of the ConfigMap that was read.
    pub(super) version: String,
    pub(super) image: Option<String>,
    replicas: Option<u32>,
    pub(super) service: Option<String>,
}

impl Standing {
    /// That of a cloud on a machine of its own, from a file there.
    pub fn of_file(document: Value, place: &str) -> Standing {
        let place = if document.is_object() { place.to_owned() } else { String::new() };
        Standing { document, place, ..Standing::default() }
    }

    /// From the objects of a former init, as far as they are there.
    pub(super) fn of(
        map: Option<&Value>,
        deployment: Option<&Value>,
        service: Option<&Value>,
    ) -> Result<Standing, Failure> {
        let mut standing = Standing::default();
        if let Some(map) = map {
            standing.read(map)?;
        }
        let ours = |it: &&Value| label(it, LABEL_MANAGED) == MANAGER;
        if let Some(deployment) = deployment.filter(ours) {
            let replicas = deployment.pointer("/spec/replicas").and_then(Value::as_u64);
            let image = deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
            standing.replicas = replicas.and_then(|count| u32::try_from(count).ok());
            standing.image = image.map(str::to_owned);
        }
        let kind = service.filter(ours).and_then(|it| it.pointer("/spec/type")).and_then(Value::as_str);
        standing.service = kind.filter(|kind| SERVICES.contains(kind)).map(str::to_owned);
        Ok(standing)
    }

    fn read(&mut self, map: &Value) -> Result<(), Failure> {
        let Some(text) = map.pointer("/data").and_then(|data| data.get(KEY)).and_then(Value::as_str) else {
            return Ok(());
        };
        let refused = |why: String| {
            Failure::new("KE-INIT-016", format!("{KEY} in ConfigMap {NAMESPACE}/{NAME} cannot be read"))
                .because(why)
                .fix(format!("mend it with `kubectl -n {NAMESPACE} edit configmap {NAME}`, or delete the ConfigMap to begin with the defaults; nothing was changed"))
                .exit(Exit::Configuration)
        };
        let document = yaml(text.as_bytes()).map_err(|error| refused(error.to_string()))?;
        if !document.is_object() {
            return Err(refused("it holds no settings such as `modules:`".to_owned()));
        }
        // The record of a cloud on a machine of its own, which keeps its settings there.
        if is_of_host(&document) {
            return Ok(());
        }
        self.place = format!("ConfigMap {NAMESPACE}/{NAME}");
        text.clone_into(&mut self.text);
        meta(map, "resourceVersion").clone_into(&mut self.version);
        self.document = document;
        Ok(())
    }

    /// Where nodes reach it: addresses, then names.
    pub fn addresses(&self) -> Vec<String> {
        advertised(&self.document)
    }

    /// The type of the Service, where somebody has chosen one.
    pub fn service_type(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// How many replicas there are to be: as many as there are, unless one or several are asked for. One that was switched
    /// off is switched on.
    pub fn replicas(&self, several: Option<bool>) -> u32 {
        match several {
            Some(true) => REPLICAS,
            Some(false) => 1,
            None => self.replicas.filter(|count| *count > 0).unwrap_or(1),
        }
    }

    /// Whether so many are more than there are.
    pub(super) fn grows_to(&self, replicas: u32) -> bool {
        self.replicas.is_some_and(|count| count < replicas)
    }

    /// The image: the one asked for, the one that was chosen, or this version's own. That of another version is no choice.
    pub fn image(&self, asked: Option<&str>) -> String {
        let chosen = || self.image.clone().filter(|image| !is_default(image));
        asked.map(str::to_owned).or_else(chosen).unwrap_or_else(default_image)
    }

    /// What a configuration and an installation owe to what stood before, for people: `fresh` is what it would be without.
    pub(super) fn settings(&self, fresh: &Value, document: &Value) -> Vec<String> {
        let mut found = Vec::new();
        differences("", fresh, document, &mut found);
        found
    }
}

/// Whether an image is this program's of any version, under the name that it has when nobody chooses one.
fn is_default(image: &str) -> bool {
    let own = default_image();
    let name = own.split_once(':').map_or(own.as_str(), |(name, _)| name);
    let version = image.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    version.is_some_and(|version| {
        version.split('.').count() == 3 && version.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// The addresses in a configuration: those that are addresses, then names.
pub(super) fn advertised(document: &Value) -> Vec<String> {
    let list = |key: &str| document.pointer(&format!("/modules/cloudHub/{key}")).and_then(Value::as_array);
    let both = ["advertiseAddress", "dnsNames"].map(list);
    let texts = both.into_iter().flatten().flatten().filter_map(|it| it.as_str().map(str::to_owned));
    texts.filter(|text| !text.is_empty()).collect()
}

/// Every setting of `now` that `before` has otherwise, and those that only `before` has. Addresses are told elsewhere.
fn differences(path: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    if before == now || ADDRESSES.contains(&path) {
        return;
    }
    let nothing = Value::Null;
    if let Value::Object(now) = now {
        let none = serde_json::Map::new();
        let before = before.as_object().unwrap_or(&none);
        let gone = before.keys().filter(|key| !now.contains_key(*key));
        for key in now.keys().chain(gone) {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
            differences(&below, &of(before), &of(now), found);
        }
        return;
    }
    found.push(match now {
        _ if is_secret(path) => path.to_owned(),
        now if *now == nothing => format!("{path} left out"),
        Value::String(text) => format!("{path}={text}"),
        now => format!("{path}={now}"),
    });
}

impl SetupDesk {
    /// Reads what stands. What may not be read is left to the preflight, which tells all the rights that are missing.
    pub async fn standing(&self) -> Result<Standing, Failure> {
        let map = self.stands(Resource::CONFIG_MAP).await?;
        let deployment = self.stands(Resource::DEPLOYMENT).await?;
        let service = self.stands(Resource::SERVICE).await?;
        Standing::of(map.as_ref(), deployment.as_ref(), service.as_ref())
    }

    async fn stands(&self, resource: Resource) -> Result<Option<Value>, Failure> {
        match self.kube.get(resource, Some(NAMESPACE), NAME).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if matches!(status.code, 401 | 403 | 404) => Ok(None),
            Err(status) => {
                let what = format!("{} {NAMESPACE}/{NAME} cannot be read", resource.kind);
                Err(Failure::new("KE-INIT-016", what)
                    .because(&status)
                    .fix("run the same command again once the Kubernetes API answers; nothing was changed")
                    .exit(Exit::Unreachable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(text: &str) -> Value {
        json!({"metadata": {"name": NAME, "resourceVersion": "7"}, "data": {KEY: text}})
    }

    fn of_map(text: &str) -> Result<Standing, Failure> {
        Standing::of(Some(&map(text)), None, None)
    }

    fn deployment(replicas: u32, image: &str) -> Value {
        json!({"metadata": {"labels": {LABEL_MANAGED: MANAGER}}, "spec": {"replicas": replicas,
            "template": {"spec": {"containers": [{"image": image}]}}}})
    }

    #[test]
    fn what_stands_is_read_with_what_was_changed_in_it() {
        let text = "# mine\nmodules:\n  cloudHub:\n    nodeLimit: 77\n    advertiseAddress: [192.0.2.10, '']\n    dnsNames: [cloud.example]\n";
        let standing = of_map(text).unwrap();
        assert_eq!((standing.text.as_str(), standing.version.as_str()), (text, "7"));
        assert_eq!(standing.document["modules"]["cloudHub"]["nodeLimit"], 77);
        assert_eq!(standing.addresses(), ["192.0.2.10", "cloud.example"]);
        for none in
            [json!({}), json!({"data": {}}), json!({"data": {"other": "x"}}), json!({"data": {KEY: 5}})]
        {
            assert_eq!(Standing::of(Some(&none), None, None).unwrap(), Standing::default());
        }
        // The record of a cloud on a machine of its own is none of a cloud in the cluster.
        let host = format!("kubeAPIConfig: {{kubeConfig: {}}}\n", super::super::HOST_KUBECONFIG);
        assert_eq!(of_map(&host).unwrap(), Standing::default());
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_told_with_a_way_out() {
        for nonsense in
            ["", "# only words\n", "modules: [", "5", "- a\n", "a: 1\na: 2\n", "a:\n\t- b", "\u{0}"]
        {
            let failure = of_map(nonsense).unwrap_err();
            assert_eq!((failure.code, failure.exit), ("KE-INIT-016", Exit::Configuration), "{nonsense:?}");
            assert!(!failure.why.is_empty(), "{nonsense:?}");
            assert!(failure.fix.contains("kubectl -n kubeedge edit configmap kedge-cloud"), "{failure}");
        }
    }

    #[test]
    fn choices_are_kept_unless_others_are_made() {
        let stands =
            |replicas, image: &str| Standing::of(None, Some(&deployment(replicas, image)), None).unwrap();
        for (stood, asked, are) in [
            (3, None, 3),
            (5, None, 5),
            (0, None, 1),
            (3, Some(false), 1),
            (1, Some(true), 3),
            (5, Some(true), 3),
        ] {
            assert_eq!(stands(stood, "x").replicas(asked), are, "{stood} {asked:?}");
        }
        assert_eq!(Standing::default().replicas(None), 1);
        assert!(stands(1, "x").grows_to(3) && !stands(3, "x").grows_to(3));
        assert!(!Standing::default().grows_to(3));

        let own = default_image();
        for (stood, asked, is) in [
            ("registry.example/kedge:0.1.0", None, "registry.example/kedge:0.1.0"),
            ("registry.example/kedge:0.1.0", Some("other:1"), "other:1"),
            ("kedge:mine", None, "kedge:mine"),
            ("kedge:0.0.9", None, own.as_str()),
            (own.as_str(), None, own.as_str()),
            ("kedge:0.0.9", Some("kedge:0.0.9"), "kedge:0.0.9"),
        ] {
            assert_eq!(stands(1, stood).image(asked), is, "{stood} {asked:?}");
        }
        // What somebody else has put there under the same name is no choice of a former init.
        let other = json!({"spec": {"replicas": 4}});
        assert_eq!(Standing::of(None, Some(&other), None).unwrap(), Standing::default());
        let service = |kind: &str| {
            let service = json!({"metadata": {"labels": {LABEL_MANAGED: MANAGER}}, "spec": {"type": kind}});
            Standing::of(None, None, Some(&service)).unwrap().service
        };
        assert_eq!(service("NodePort").as_deref(), Some("NodePort"));
        assert_eq!(service("ClusterIP"), None);
    }

    #[test]
    fn what_is_kept_is_told_and_no_secret_with_it() {
        let fresh = json!({"a": {"b": 1, "c": [1], "gone": true}, "same": {"x": 1}});
        let now = json!({"a": {"b": 2, "c": [1, 2]}, "same": {"x": 1}, "new": {"name": "y", "token": "s3cret"},
            "modules": {"cloudHub": {"dnsNames": ["z"]}}});
        let told = Standing::default().settings(&fresh, &now);
        assert_eq!(told, ["a.b=2", "a.c=[1,2]", "a.gone left out", "new.name=y", "new.token"]);
        assert!(Standing::default().settings(&now, &now).is_empty());
    }
}
