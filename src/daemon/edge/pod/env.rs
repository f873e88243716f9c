//! A container's environment: literals, ConfigMaps, Secrets, fields of the pod, and `$(NAME)` in values and commands.
//! Fetching is async through `Sources`; expansion is pure. Values are never logged.

use super::field::{self, Place};
use super::sources::Sources;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use serde_json::Value;

/// Why a container cannot be described: `CreateContainerConfigError` in its status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ConfigError(pub String);

/// Names and values in the order of their definition; a later definition replaces an earlier one.
#[derive(Clone, Default)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    pub fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// Replaces `$(NAME)` by its value where it is defined; `$$` is one dollar sign.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let after = after.get(1..).unwrap_or_default();
            if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                rest = tail;
                continue;
            }
            let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            match reference {
                Some((name, tail)) => {
                    match self.get(name) {
                        Some(value) => out.push_str(value),
                        None => out.push_str(&format!("$({name})")),
                    }
                    rest = tail;
                }
                None => {
                    out.push('$');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

/// The environment of a container.
pub(super) async fn resolve(
    pod: &Pod,
    container: &Container,
    place: &Place,
    sources: &dyn Sources,
) -> Result<Environment, ConfigError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut env = Environment::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional == Some(true);
            let data = config_map(sources, namespace, &reference.name, optional).await?;
            add_all(&mut env, prefix, data.as_ref().map(texts).unwrap_or_default());
        }
        if let Some(reference) = &from.secret_ref {
            let optional = reference.optional == Some(true);
            let data = secret(sources, namespace, &reference.name, optional).await?;
            let pairs = data.as_ref().map(secret_texts).unwrap_or_default();
            add_all(&mut env, prefix, pairs);
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, place, sources, &env).await? {
            env.set(&variable.name, value);
        }
    }
    Ok(env)
}

fn add_all(env: &mut Environment, prefix: &str, pairs: Vec<(String, String)>) {
    for (name, value) in pairs {
        env.set(&format!("{prefix}{name}"), value);
    }
}

/// `Ok(None)` leaves the variable out: an optional source is absent.
async fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    place: &Place,
    sources: &dyn Sources,
    env: &Environment,
) -> Result<Option<String>, ConfigError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(from) = &variable.value_from else {
        return Ok(Some(env.expand(variable.value.as_deref().unwrap_or_default())));
    };
    if let Some(reference) = &from.field_ref {
        let value = field::value(pod, place, &reference.field_path);
        let unknown = || ConfigError(format!("the pod has no field {}", reference.field_path));
        return value.map(Some).ok_or_else(unknown);
    }
    if let Some(reference) = &from.resource_field_ref {
        let value = field::resource(pod, Some(container), reference);
        let unknown = || ConfigError(format!("the container has no resource {}", reference.resource));
        return value.map(Some).ok_or_else(unknown);
    }
    if let Some(reference) = &from.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let object = config_map(sources, namespace, &reference.name, optional).await?;
        let value = object.as_ref().and_then(|object| text(object, &reference.key));
        let missing =
            || format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name);
        return present(value, optional, missing);
    }
    if let Some(reference) = &from.secret_key_ref {
        let optional = reference.optional == Some(true);
        let object = secret(sources, namespace, &reference.name, optional).await?;
        let bytes = object.as_ref().and_then(|object| secret_bytes(object, &reference.key));
        let value = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let missing =
            || format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name);
        return present(value, optional, missing);
    }
    Err(ConfigError(format!("the variable {} has an unknown source", variable.name)))
}

fn present(
    value: Option<String>,
    optional: bool,
    missing: impl FnOnce() -> String,
) -> Result<Option<String>, ConfigError> {
    if value.is_none() && !optional { Err(ConfigError(missing())) } else { Ok(value) }
}

/// A ConfigMap; `None` only where it is optional.
pub(super) async fn config_map(
    sources: &dyn Sources,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Value>, ConfigError> {
    match sources.config_map(namespace, name).await {
        Ok(None) if !optional => Err(ConfigError(format!("configmap \"{name}\" not found"))),
        Ok(found) => Ok(found),
        Err(_) if optional => Ok(None),
        Err(failure) => Err(ConfigError(failure.to_string())),
    }
}

/// A Secret; `None` only where it is optional.
pub(super) async fn secret(
    sources: &dyn Sources,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Value>, ConfigError> {
    match sources.secret(namespace, name).await {
        Ok(None) if !optional => Err(ConfigError(format!("secret \"{name}\" not found"))),
        Ok(found) => Ok(found),
        Err(_) if optional => Ok(None),
        Err(failure) => Err(ConfigError(failure.to_string())),
    }
}

fn text(config_map: &Value, key: &str) -> Option<String> {
    config_map.get("data")?.get(key)?.as_str().map(str::to_owned)
}

fn texts(config_map: &Value) -> Vec<(String, String)> {
    let data = config_map.get("data").and_then(Value::as_object).into_iter().flatten();
    data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The bytes under a key of a Secret; `stringData` is accepted as clients write it.
pub(super) fn secret_bytes(secret: &Value, key: &str) -> Option<Vec<u8>> {
    if let Some(text) = secret.get("stringData").and_then(|data| data.get(key)).and_then(Value::as_str) {
        return Some(text.as_bytes().to_vec());
    }
    STANDARD.decode(secret.get("data")?.get(key)?.as_str()?).ok()
}

fn secret_texts(secret: &Value) -> Vec<(String, String)> {
    let data = secret.get("data").and_then(Value::as_object).into_iter().flatten();
    data.filter_map(|(key, _)| Some((key.clone(), String::from_utf8(secret_bytes(secret, key)?).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BoxFuture, Failure};
    use serde_json::json;

    struct Fixed;

    impl Sources for Fixed {
        fn config_map<'a>(
            &'a self,
            _: &'a str,
            name: &'a str,
        ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
            Box::pin(async move { Ok((name == "cm").then(|| json!({"data": {"k": "v", "z": "1"}}))) })
        }

        fn secret<'a>(&'a self, _: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
            Box::pin(async move { Ok((name == "s").then(|| json!({"data": {"k": "c2VjcmV0"}}))) })
        }

        fn token<'a>(&'a self, _: &'a str, _: &'a str, _: Value) -> BoxFuture<'a, Result<Value, Failure>> {
            Box::pin(async { Ok(Value::Null) })
        }
    }

    async fn resolved(container: Value) -> Result<Vec<(String, String)>, ConfigError> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d"}})).unwrap();
        let container = serde_json::from_value(container).unwrap();
        Ok(resolve(&pod, &container, &Place::default(), &Fixed).await?.into_pairs())
    }

    #[tokio::test]
    async fn every_kind_of_source_is_read() {
        let env = resolved(json!({
            "name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "absent", "optional": true}}],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)-$(P_k)-$(X)-$$(A)"},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "F", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": true}}},
                {"name": "A", "value": "2"},
            ],
        }))
        .await
        .unwrap();
        let text: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text, ["P_k=v", "P_z=1", "A=2", "B=1-v-$(X)-$(A)", "C=v", "D=secret", "E=p"]);
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let missing = json!({"name": "c", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]});
        assert_eq!(resolved(missing).await.unwrap_err().to_string(), "configmap \"no\" not found");
        let missing = json!({"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no"}}}]});
        assert_eq!(resolved(missing).await.unwrap_err().to_string(), "couldn't find key no in Secret d/s");
    }

    #[test]
    fn odd_dollars_survive_expansion() {
        let env = Environment::default();
        for text in ["$", "a$b", "$(", "$(open", "100$"] {
            assert_eq!(env.expand(text), text);
        }
    }
}
